// SPDX-License-Identifier: Apache-2.0
// Attention as cuDNN operation graphs: matrix products, pointwise operations and reductions in the order that the
// library recognises as one flash kernel. The order of the operations matters, and so does which tensors are in memory.
// Source: spec of the library's attention patterns, cudnn_graph_v9.h; Dao 2023 (arXiv:2307.08691).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/cudnn_operations_cuda.h"
#include "kernels/attention/sdpa_cuda.h"

namespace farsight::cuda {

// Which tensor of a call a unique id stands for.
enum class SdpaTensor : int64_t {
  q = 1,
  k,
  v,
  out,
  lse,
  dout,
  dq,
  dk,
  dv,
  // In the workspace.
  dq_sum,    // fp32, where dq is added up
  row_term,  // fp32 like lse, sum(dout * out)
  dk_heads,  // packed: dk and dv of every query head, before those that share keys are added up
  dv_heads,
  q_lengths,  // packed: int32 [B]
  k_lengths,
  // On the host, by value: fp32, then int32.
  scale,
  minus_infinity,
  one,
  right_shift,
  left_shift,
  // Packed: offsets + t holds int64 [B + 1], the elements of t at which documents begin; in the workspace.
  offsets = 100,
};
inline SdpaTensor offsets_of(SdpaTensor t) {
  return static_cast<SdpaTensor>(static_cast<int64_t>(SdpaTensor::offsets) + static_cast<int64_t>(t));
}

// A tensor that the variant pack gives; what lies in the workspace takes these bytes of it.
struct SdpaOperand {
  SdpaTensor id;
  int64_t workspace_bytes;
};

// A finalised operation graph with what it is made of.
struct SdpaGraph {
  GraphBuilder parts;
  std::vector<SdpaOperand> operands;
  Descriptor graph{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
};

// Throw CudnnError where the library refuses an operation or the graph. handle null: for a device that is described
// (cudnn_plan_cuda.h).
SdpaGraph sdpa_forward_graph(const CudaSdpaForward& call, cudnnHandle_t handle);
SdpaGraph sdpa_backward_graph(const CudaSdpaBackward& call, cudnnHandle_t handle);

}  // namespace farsight::cuda
