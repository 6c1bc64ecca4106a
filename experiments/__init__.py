"""What is run: data, configs, training, evaluation, tracking; each stage is a command of its own."""

import logging
import warnings

# mmcv's farewell to its 1.x series, and torch's remark that a machine with nvcc has no GPU: neither helps anyone here
warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV")
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
