"""Classes for frameworks that have an interface for storage of their own. Each module needs its framework.

- `lightning`: Lightning: `OssCheckpointIO`, and strategies for sharded models
- `transformers`: transformers' Trainer: a callback that uploads checkpoints
- `accelerate`: Accelerate: `save_state` and `load_state`
- `folders`: checkpoints that are folders on a disk, in OSS: for the two above, and any other tool
- `background`: work that goes on while training does
- `ray`: Ray Data: objects as rows of a dataset, and rows as objects
- `msc`: NVIDIA's multi-storage-client: a provider, and the bundle that lets it in
- `webdataset`: webdataset: `oss://` in `WebDataset` and `TarWriter`
- `mlflow`: MLflow: artifacts
- `ultralytics`: Ultralytics: `make_oss_trainer`, detection models trained on images and labels in OSS
"""
