// SPDX-License-Identifier: Apache-2.0
#include "kernels/column_sums.h"

#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/column_sums.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

constexpr int64_t kColumns = 64;   // one thread's stripe: 256 contiguous bytes of every row
constexpr int64_t kRowBlock = 64;  // rows summed in fp32

// A stripe of at most kColumns columns.
HWY_ATTR void SumStripe(const float* in, int64_t rows, int64_t cols, int64_t stride, bool add, float* out) {
  double total[kColumns] = {};
  alignas(64) float block[kColumns];
  for (int64_t r0 = 0; r0 < rows; r0 += kRowBlock) {
    const int64_t r1 = std::min(rows, r0 + kRowBlock);
    for_vectors(cols, [&](int64_t i, auto io) HWY_ATTR {
      V32 even = hn::Zero(F32()), odd = even;
      int64_t r = r0;
      for (; r + 2 <= r1; r += 2) {
        even = hn::Add(even, io.load(in + r * stride + i));
        odd = hn::Add(odd, io.load(in + (r + 1) * stride + i));
      }
      if (r < r1) even = hn::Add(even, io.load(in + r * stride + i));
      io.store(hn::Add(even, odd), block + i);
    });
    for (int64_t c = 0; c < cols; ++c) total[c] += static_cast<double>(block[c]);
  }
  for (int64_t c = 0; c < cols; ++c) out[c] = static_cast<float>(total[c] + (add ? static_cast<double>(out[c]) : 0.0));
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(SumStripe);
constexpr int64_t kStripe = 64;
}  // namespace

void column_sums(const float* in, int64_t rows, int64_t cols, int64_t stride, bool add, float* out) {
  parallel_for((cols + kStripe - 1) / kStripe, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const int64_t c = s * kStripe;
      HWY_DYNAMIC_DISPATCH(SumStripe)(in + c, rows, std::min(kStripe, cols - c), stride, add, out + c);
    }
  });
}

void column_sums(const Tensor& in, bool add, const Tensor& out) {
  if (in.device() == Device::cpu) {
    column_sums(in.data<float>(), in.rows(), in.cols(), in.row_stride(), add, out.data<float>());
    return;
  }
  const int64_t block_rows = cuda_sum_rows(in.rows());
  const int64_t blocks = (in.rows() + block_rows - 1) / block_rows;
  const Tensor partial = blocks > 1 ? Tensor::empty({blocks, in.cols()}) : Tensor();
  const CudaColumnSums a{in.dtype(),
                         in.rows(),
                         in.cols(),
                         in.raw(),
                         in.row_stride(),
                         block_rows,
                         static_cast<float*>(partial.raw()),
                         static_cast<float*>(out.raw()),
                         add};
  cuda_device().run("column_sums", &CudaBackend::column_sums, a);
}

}  // namespace farsight
#endif  // HWY_ONCE
