"""Get objects by their index with OssMapDataset."""

from __future__ import annotations

from playground import playground, put_pictures

from osstorchconnector import OssMapDataset


def main() -> None:
    with playground("map-dataset") as oss:
        uris = put_pictures(oss, 12)

        # 1) from_prefix: the prefix is listed once, at first use
        dataset = OssMapDataset.from_prefix(oss.uri + "pictures/", **oss.options)
        print(len(dataset), "objects")
        item = dataset[0]
        print("first:", item.key, len(item.read()))
        item.close()
        with dataset[-1] as item:
            print("last:", item.key, len(item.read()))
        for item in dataset:
            print(item.key, item.size)
            item.close()

        # 2) from_objects: no listing
        dataset = OssMapDataset.from_objects(uris[:3], **oss.options)
        with dataset[1] as item:
            print("second of three:", item.key, len(item.read()))


if __name__ == "__main__":
    main()
