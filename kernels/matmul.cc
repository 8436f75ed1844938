// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"

#include <string>

#include <oneapi/dnnl/dnnl.h>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/linear_cpu.h"

namespace farsight {

void matmul(Transpose trans_a, Transpose trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
            int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0) {  // an empty sum, which the library leaves undefined
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = beta == 0.0F ? 0.0F : beta * c[i * ldc + j];
    }
    return;
  }
  const auto status = dnnl_sgemm(trans_a == Transpose::yes ? 'T' : 'N', trans_b == Transpose::yes ? 'T' : 'N', m, n, k,
                                 alpha, a, lda, b, ldb, beta, c, ldc);
  if (status != dnnl_success) {
    fail(ErrorKind::internal, "matmul: oneDNN refused m={} n={} k={} lda={} ldb={} ldc={} (status {})", m, n, k, lda,
         ldb, ldc, static_cast<int>(status));
  }
}

namespace {

struct Sizes {
  int64_t m, n, k;
};

Sizes sizes_of(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& c,
               const Tensor& bias) {
  const bool ta = trans_a == Transpose::yes, tb = trans_b == Transpose::yes;
  const Sizes s{ta ? a.cols() : a.rows(), tb ? b.rows() : b.cols(), ta ? a.rows() : a.cols()};
  const bool fit = (tb ? b.cols() : b.rows()) == s.k && c.rows() == s.m && c.cols() == s.n &&
                   (!bias.defined() || bias.numel() == s.n);
  const bool together = a.device() == b.device() && a.device() == c.device() && a.dtype() == b.dtype();
  if (!fit || !together) {
    fail(ErrorKind::internal, "matmul: {}{} {} times {}{} {} into {} on {}", to_string(a.shape()), ta ? "^T" : "",
         to_string(a.dtype()), to_string(b.shape()), tb ? "^T" : "", to_string(b.dtype()), to_string(c.shape()),
         to_string(c.device()));
  }
  return s;
}

CudaMatmul product(Transpose trans_a, Transpose trans_b, const Sizes& s, const Tensor& a, const Tensor& b,
                   const Tensor& c) {
  CudaMatmul call{};
  call.trans_a = trans_a;
  call.trans_b = trans_b;
  call.m = s.m;
  call.n = s.n;
  call.k = s.k;
  call.a = a.raw();
  call.lda = a.row_stride();
  call.b = b.raw();
  call.ldb = b.row_stride();
  call.type = a.dtype();
  call.c = c.raw();
  call.ldc = c.row_stride();
  call.c_type = c.dtype();
  return call;
}

CudaMatmul gelu_product(MatmulEpilogue epilogue, Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b,
                        const Tensor& bias, const Tensor& pre, const Tensor& c) {
  const Sizes s = sizes_of(trans_a, trans_b, a, b, c, bias);
  const bool fit = pre.rows() == s.m && pre.cols() == s.n && s.k > 0;
  if (!fit || !takes_gelu(a) || !takes_gelu(b) || !takes_gelu(c) || !takes_gelu(pre)) {
    fail(ErrorKind::internal,
         "matmul_gelu: {} times {} into {} beside {} (rows {}, {}, {} and {} apart) are not bf16 matrices of a device "
         "with rows at multiples of 16 bytes",
         to_string(a.shape()), to_string(b.shape()), to_string(c.shape()), to_string(pre.shape()), a.row_stride(),
         b.row_stride(), c.row_stride(), pre.row_stride());
  }
  CudaMatmul call = product(trans_a, trans_b, s, a, b, c);
  call.bias = bias.raw();
  call.epilogue = epilogue;
  call.aux = pre.raw();
  call.aux_stride = pre.row_stride();
  return call;
}

bool available(const CudaMatmul& call) {
  int32_t found = 0;
  cuda_device().check("matmul_gelu", cuda_device().backend().matmul_available(&call, &found));
  return found != 0;
}

}  // namespace

void matmul(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, float beta, const Tensor& c,
            const Tensor& bias) {
  const Sizes s = sizes_of(trans_a, trans_b, a, b, c, bias);
  if (s.m == 0 || s.n == 0) return;
  if (a.device() == Device::cpu) {
    matmul(trans_a, trans_b, s.m, s.n, s.k, 1.0F, a.data<float>(), a.row_stride(), b.data<float>(), b.row_stride(),
           beta, c.data<float>(), c.row_stride());
    if (bias.defined()) add_bias_cpu(bias.data<float>(), c.rows(), c.cols(), c.data<float>());
    return;
  }
  if (s.k == 0) {  // an empty sum
    if (beta == 0.0F) c.fill_zero();
    return;
  }
  CudaMatmul call = product(trans_a, trans_b, s, a, b, c);
  call.beta = beta;
  call.bias = bias.raw();
  cuda_device().run("matmul", &CudaBackend::matmul, call);
}

bool takes_gelu(const Tensor& matrix) {
  return matrix.device() == Device::cuda && matrix.dtype() == DType::bf16 &&
         matrix.row_stride() % kMatmulAuxStride == 0 &&
         reinterpret_cast<uintptr_t>(matrix.raw()) % kMatmulAuxBytes == 0;
}

void matmul_gelu(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& bias,
                 const Tensor& pre, const Tensor& c) {
  if (c.numel() == 0) return;
  cuda_device().run("matmul_gelu", &CudaBackend::matmul,
                    gelu_product(MatmulEpilogue::gelu, trans_a, trans_b, a, b, bias, pre, c));
}

bool has_matmul_gelu(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& bias,
                     const Tensor& pre, const Tensor& c) {
  return c.numel() == 0 || available(gelu_product(MatmulEpilogue::gelu, trans_a, trans_b, a, b, bias, pre, c));
}

void matmul_gelu_gradient(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& pre,
                          const Tensor& c) {
  if (c.numel() == 0) return;
  cuda_device().run("matmul_gelu", &CudaBackend::matmul,
                    gelu_product(MatmulEpilogue::gelu_gradient, trans_a, trans_b, a, b, {}, pre, c));
}

bool has_matmul_gelu_gradient(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& pre,
                              const Tensor& c) {
  return c.numel() == 0 || available(gelu_product(MatmulEpilogue::gelu_gradient, trans_a, trans_b, a, b, {}, pre, c));
}

const char* matmul_library() {
  static const std::string name = [] {
    const dnnl_version_t* v = dnnl_version();
    return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
  }();
  return name.c_str();
}

}  // namespace farsight
