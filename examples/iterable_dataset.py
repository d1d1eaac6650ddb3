"""Read objects one after the other with OssIterableDataset: all objects under a prefix, or a list of objects."""

from __future__ import annotations

from playground import playground, put_pictures

from osstorchconnector import OssIterableDataset


def main() -> None:
    with playground("iterable-dataset") as oss:
        uris = put_pictures(oss, 12)

        # 1) from_prefix: everything under a prefix, in listing order
        dataset = OssIterableDataset.from_prefix(oss.uri + "pictures/", **oss.options)
        for item in dataset:
            content = item.read()
            print(item.key, item.size, len(content))
            item.close()

        # 2) from_objects: the objects of a list, in its order
        dataset = OssIterableDataset.from_objects(uris[:3], **oss.options)
        for item in dataset:
            with item:
                print(item.uri, len(item.read()))


if __name__ == "__main__":
    main()
