// SPDX-License-Identifier: Apache-2.0
// The operations of the plugin, one file each beside their CPU counterparts, and the part of the table that names them.
#pragma once

#include "kernels/cuda/backend.h"

namespace farsight::cuda {

int copy_rows(const CudaRowsCopy* arguments, CudaStream stream);
int fill(const CudaFill* arguments, CudaStream stream);
int dense_attention_forward(const CudaDenseAttention* arguments, CudaStream stream);
int dense_attention_backward(const CudaDenseAttentionBackward* arguments, CudaStream stream);
int dropout_rows(const CudaDropoutRows* arguments, CudaStream stream);
int forecast_loss(const CudaForecastLoss* arguments, CudaStream stream);
int scaled_sum(const CudaScaledSum* arguments, CudaStream stream);
int gelu_forward(const CudaGeluForward* arguments, CudaStream stream);
int gelu_backward(const CudaGeluBackward* arguments, CudaStream stream);
int instance_norm_forward(const CudaInstanceNormForward* arguments, CudaStream stream);
int instance_norm_backward(const CudaInstanceNormBackward* arguments, CudaStream stream);
int moving_average(const CudaMovingAverage* arguments, CudaStream stream);
int norm_forward(const CudaNormForward* arguments, CudaStream stream);
int norm_backward(const CudaNormBackward* arguments, CudaStream stream);
int patches_forward(const CudaPatchesForward* arguments, CudaStream stream);
int patches_backward(const CudaPatchesBackward* arguments, CudaStream stream);
int rope_table(const CudaRopeTable* arguments, CudaStream stream);
int rope_rows(const CudaRopeRows* arguments, CudaStream stream);
int swiglu_forward(const CudaSwigluForward* arguments, CudaStream stream);
int swiglu_backward(const CudaSwigluBackward* arguments, CudaStream stream);

int batch_norm_blocks(const CudaBatchNormBlocks* arguments, CudaStream stream);
int batch_norm_join(const CudaBatchNormJoin* arguments, CudaStream stream);
int batch_norm_forward(const CudaBatchNormForward* arguments, CudaStream stream);
int batch_norm_sums(const CudaBatchNormSums* arguments, CudaStream stream);
int batch_norm_backward(const CudaBatchNormBackward* arguments, CudaStream stream);
int add_scaled(const CudaAddScaled* arguments, CudaStream stream);

int column_sums(const CudaColumnSums* arguments, CudaStream stream);

int matmul(const CudaMatmul* arguments, CudaStream stream);
int matmul_available(const CudaMatmul* arguments, int32_t* available);

int adamw(const CudaAdamW* arguments, CudaStream stream);

int sgd(const CudaSgd* arguments, CudaStream stream);

int add_sum(const CudaSum* arguments, CudaStream stream);
int add_total(const CudaAddTotal* arguments, CudaStream stream);
int update_gate(const CudaUpdateGate* arguments, CudaStream stream);

int gather_rows(const CudaGatherRows* arguments, CudaStream stream);

int scatter_rows(const CudaScatterRows* arguments, CudaStream stream);

int logit_maxima(const CudaLogitMaxima* arguments, CudaStream stream);

int logit_sums(const CudaLogitSums* arguments, CudaStream stream);

int logit_losses(const CudaLogitLosses* arguments, CudaStream stream);

int logit_gradients(const CudaLogitGradients* arguments, CudaStream stream);

int attention_bounds(const CudaAttentionBounds* arguments, CudaStream stream);

int attention_forward(const CudaAttentionForward* arguments, CudaStream stream);

int attention_finish(const CudaAttentionFinish* arguments, CudaStream stream);

int attention_merge(const CudaAttentionMerge* arguments, CudaStream stream);

int attention_row_terms(const CudaAttentionRowTerms* arguments, CudaStream stream);

int attention_backward(const CudaAttentionBackward* arguments, CudaStream stream);

int sdpa_library(SdpaLibrary* library);

int sdpa_plan(const CudaSdpaPlan* arguments, CudaStream stream);

int sdpa_forward(const CudaSdpaForward* arguments, CudaStream stream);

int sdpa_backward(const CudaSdpaBackward* arguments, CudaStream stream);

void name_operations(CudaBackend& table);
void name_collectives(CudaBackend& table);  // and the making of groups

}  // namespace farsight::cuda
