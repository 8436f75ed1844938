// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"

#include <string>

#include <oneapi/dnnl/dnnl.h>

#include "kernels/error.h"

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

const char* matmul_library() {
  static const std::string name = [] {
    const dnnl_version_t* v = dnnl_version();
    return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
  }();
  return name.c_str();
}

}  // namespace farsight
