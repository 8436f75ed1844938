// SPDX-License-Identifier: Apache-2.0
// Matrix products of the emulated device: what cuBLASLt does on a real one, with fp32 sums.
#include "kernels/matmul.h"

#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cuda/operations_cuda.h"
#include "tests/emulation/streams.h"

namespace farsight::cuda {
namespace {

float read(DType type, const void* data, int64_t at) {
  return type == DType::f32 ? static_cast<const float*>(data)[at]
                            : bf16_to_float(static_cast<const uint16_t*>(data)[at]);
}

std::vector<float> read_matrix(DType type, const void* data, int64_t rows, int64_t cols, int64_t stride) {
  std::vector<float> out(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) out[static_cast<size_t>(r * cols + c)] = read(type, data, r * stride + c);
  }
  return out;
}

void multiply(const CudaMatmul& p) {
  const bool ta = p.trans_a == Transpose::yes, tb = p.trans_b == Transpose::yes;
  const auto a = read_matrix(p.type, p.a, ta ? p.k : p.m, ta ? p.m : p.k, p.lda);
  const auto b = read_matrix(p.type, p.b, tb ? p.n : p.k, tb ? p.k : p.n, p.ldb);
  std::vector<float> c(static_cast<size_t>(p.m * p.n));
  if (p.beta != 0.0F) c = read_matrix(p.c_type, p.c, p.m, p.n, p.ldc);
  farsight::matmul(p.trans_a, p.trans_b, p.m, p.n, p.k, 1.0F, a.data(), ta ? p.m : p.k, b.data(), tb ? p.k : p.n,
                   p.beta, c.data(), p.n);
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      const float value = c[static_cast<size_t>(i * p.n + j)] + (p.bias == nullptr ? 0.0F : read(p.type, p.bias, j));
      if (p.c_type == DType::f32) {
        static_cast<float*>(p.c)[i * p.ldc + j] = value;
      } else {
        static_cast<uint16_t*>(p.c)[i * p.ldc + j] = float_to_bf16(value);
      }
    }
  }
}

}  // namespace

int matmul(const CudaMatmul* a, CudaStream stream) {
  return emulation::enqueue(stream, [call = *a] { multiply(call); });
}

}  // namespace farsight::cuda
