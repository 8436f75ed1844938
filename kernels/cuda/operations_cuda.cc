// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/operations_cuda.h"

namespace farsight::cuda {

void name_operations(CudaBackend& table) {
  table.batch_norm_blocks = batch_norm_blocks;
  table.batch_norm_join = batch_norm_join;
  table.batch_norm_forward = batch_norm_forward;
  table.batch_norm_sums = batch_norm_sums;
  table.batch_norm_backward = batch_norm_backward;
  table.add_scaled = add_scaled;
  table.column_sums = column_sums;
  table.matmul = matmul;
  table.matmul_available = matmul_available;
  table.adamw = adamw;
  table.sgd = sgd;
  table.add_sum = add_sum;
  table.add_total = add_total;
  table.update_gate = update_gate;
  table.gather_rows = gather_rows;
  table.scatter_rows = scatter_rows;
  table.logit_maxima = logit_maxima;
  table.logit_sums = logit_sums;
  table.logit_losses = logit_losses;
  table.logit_gradients = logit_gradients;
  table.attention_bounds = attention_bounds;
  table.attention_forward = attention_forward;
  table.attention_finish = attention_finish;
  table.attention_merge = attention_merge;
  table.attention_row_terms = attention_row_terms;
  table.attention_backward = attention_backward;
  table.sdpa_library = sdpa_library;
  table.sdpa_plan = sdpa_plan;
  table.sdpa_forward = sdpa_forward;
  table.sdpa_backward = sdpa_backward;
  table.copy_rows = copy_rows;
  table.fill = fill;
  table.dense_attention_forward = dense_attention_forward;
  table.dense_attention_backward = dense_attention_backward;
  table.dropout_rows = dropout_rows;
  table.forecast_loss = forecast_loss;
  table.scaled_sum = scaled_sum;
  table.gelu_forward = gelu_forward;
  table.gelu_backward = gelu_backward;
  table.instance_norm_forward = instance_norm_forward;
  table.instance_norm_backward = instance_norm_backward;
  table.moving_average = moving_average;
  table.norm_forward = norm_forward;
  table.norm_backward = norm_backward;
  table.patches_forward = patches_forward;
  table.patches_backward = patches_backward;
  table.rope_table = rope_table;
  table.rope_rows = rope_rows;
  table.swiglu_forward = swiglu_forward;
  table.swiglu_backward = swiglu_backward;
}

}  // namespace farsight::cuda
