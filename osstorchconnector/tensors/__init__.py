"""What every part that fills or reads tensors needs.

- `memory`: a tensor as bytes, and back
- `dtypes`: their names in safetensors files
- `isolation`: torch calls run outside the contexts that the user has switched on; garbage collection paused
"""
