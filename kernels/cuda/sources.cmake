# SPDX-License-Identifier: Apache-2.0
# Device code of the plugin. The emulator of tests/emulation compiles the same list.
set(FARSIGHT_CUDA_KERNELS
  kernels/attention/backward_cuda.cu
  kernels/attention/bounds_cuda.cu
  kernels/attention/forward_cuda.cu
  kernels/attention/merge_cuda.cu
  kernels/attention/sdpa_offsets_cuda.cu
  kernels/batch_norm_cuda.cu
  kernels/column_sums_cuda.cu
  kernels/cross_entropy_cuda.cu
  kernels/dense_attention_cuda.cu
  kernels/dropout_cuda.cu
  kernels/embedding_cuda.cu
  kernels/forecast_loss_cuda.cu
  kernels/scaled_sum_cuda.cu
  kernels/gelu_cuda.cu
  kernels/instance_norm_cuda.cu
  kernels/moving_average_cuda.cu
  kernels/norm_cuda.cu
  kernels/optimizer_cuda.cu
  kernels/patches_cuda.cu
  kernels/rope_cuda.cu
  kernels/rows_cuda.cu
  kernels/swiglu_cuda.cu
  kernels/totals_cuda.cu
)
# Operation graphs for cuDNN, which a test builds without a device.
set(FARSIGHT_CUDNN_GRAPHS
  kernels/attention/cudnn_descriptor_cuda.cc
  kernels/attention/cudnn_graph_cuda.cc
  kernels/attention/cudnn_operations_cuda.cc
  kernels/attention/cudnn_plan_cuda.cc
)
# Products in the words of cuBLASLt, likewise.
set(FARSIGHT_MATMUL_DESCRIPTORS kernels/matmul_descriptor_cuda.cc)
