// SPDX-License-Identifier: Apache-2.0
// Matrix products of the emulated device: what cuBLASLt does on a real one, with fp32 sums, to which bias and GELU are
// applied before they are rounded. What the library would refuse is refused.
#include "kernels/matmul.h"

#include <cmath>
#include <cstdlib>
#include <string_view>
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

void write(DType type, void* data, int64_t at, float value) {
  if (type == DType::f32) {
    static_cast<float*>(data)[at] = value;
  } else {
    static_cast<uint16_t*>(data)[at] = float_to_bf16(value);
  }
}

constexpr double kRoot = 0.7978845608028654;  // sqrt(2 / pi)
constexpr double kCubic = 0.044715;

float gelu(float x) {
  const auto v = static_cast<double>(x);
  return static_cast<float>(0.5 * v * (1.0 + std::tanh(kRoot * (v + kCubic * v * v * v))));
}

float gelu_slope(float x) {
  const auto v = static_cast<double>(x);
  const double t = std::tanh(kRoot * (v + kCubic * v * v * v));
  return static_cast<float>(0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * kRoot * (1.0 + 3.0 * kCubic * v * v));
}

// What is stored of a sum with its bias.
float finished(const CudaMatmul& p, int64_t row, int64_t column, float sum) {
  const int64_t at = row * p.aux_stride + column;
  switch (p.epilogue) {
    case MatmulEpilogue::gelu:
      write(p.c_type, p.aux, at, sum);
      return gelu(sum);
    case MatmulEpilogue::gelu_gradient:
      return sum * gelu_slope(read(p.c_type, p.aux, at));
    case MatmulEpilogue::none:
      break;
  }
  return sum;
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
      write(p.c_type, p.c, i * p.ldc + j, finished(p, i, j, value));
    }
  }
}

const char* refusal(const CudaMatmul& p) {
  if (p.epilogue == MatmulEpilogue::none) return nullptr;
  if (p.aux == nullptr) return "an epilogue with GELU needs aux";
  if (p.aux_stride < p.n || p.aux_stride % 8 != 0) return "the stride of aux must be a multiple of 8 and hold a row";
  if (reinterpret_cast<uintptr_t>(p.aux) % 16 != 0) return "aux must begin at a multiple of 16 bytes";
  if (p.beta != 0.0F) return "an epilogue with GELU does not add to C";
  if (p.epilogue == MatmulEpilogue::gelu_gradient && p.bias != nullptr) return "a gradient has no bias";
  return nullptr;
}

// FARSIGHT_EMULATION_GELU=0: a library without products that GELU is a part of.
bool has(const CudaMatmul& p) {
  const char* text = std::getenv("FARSIGHT_EMULATION_GELU");
  return p.epilogue == MatmulEpilogue::none || text == nullptr || std::string_view(text) != "0";
}

}  // namespace

int matmul_available(const CudaMatmul* a, int32_t* available) {
  *available = refusal(*a) == nullptr && has(*a) ? 1 : 0;
  return 0;
}

int matmul(const CudaMatmul* a, CudaStream stream) {
  if (const char* why = refusal(*a)) return failed(7, "matmul", why);
  if (!has(*a)) return failed(7, "matmul", "no such product");
  return emulation::enqueue(stream, [call = *a] { multiply(call); });
}

}  // namespace farsight::cuda
