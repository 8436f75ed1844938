// SPDX-License-Identifier: Apache-2.0
#include "kernels/patches.h"

#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/patches_cpu.h"

namespace farsight {
namespace {

void forward(const PatchSize& s, const Tensor& x, const Tensor& y) {
  if (x.device() == Device::cpu) {
    patches_forward_cpu(s, x.data<float>(), x.row_stride(), y.data<float>());
    return;
  }
  const CudaPatchesForward a{x.dtype(), s.rows, s.length, s.patch, s.stride, s.count, x.raw(), x.row_stride(), y.raw()};
  cuda_device().run("patches", &CudaBackend::patches_forward, a);
}

void backward(const PatchSize& s, const Tensor& dy, const Gradient& dx) {
  const bool add = dx.beta != 0.0F;
  const Tensor& to = dx.tensor;
  if (to.device() == Device::cpu) {
    patches_backward_cpu(s, dy.data<float>(), add, to.data<float>(), to.row_stride());
    return;
  }
  const CudaPatchesBackward a{to.dtype(), s.rows,   s.length, s.patch,         s.stride,
                              s.count,    dy.raw(), to.raw(), to.row_stride(), add};
  cuda_device().run("patches backward", &CudaBackend::patches_backward, a);
}

}  // namespace

int64_t patch_count(int64_t length, int64_t patch, int64_t stride, int64_t pad) {
  if (length < 1 || patch < 1 || stride < 1 || pad < 0 || length + pad < patch) {
    fail(ErrorKind::internal, "patches: no patch of {} values with stride {} in {} values and {} copies of the last",
         patch, stride, length, pad);
  }
  return (length + pad - patch) / stride + 1;
}

Var patches(Tape& tape, const Var& x, int64_t patch, int64_t stride, int64_t pad) {
  const Tensor& in = x.value();
  const PatchSize size{in.rows(), in.cols(), patch, stride, patch_count(in.cols(), patch, stride, pad)};
  Tensor y = Tensor::empty({size.rows * size.count, patch}, in.dtype());
  forward(size, in, y);
  const Var out = tape.variable(std::move(y), {x});
  tape.record(out, {}, [x, out, size] { backward(size, out.grad(), x.begin_gradient()); });
  return out;
}

}  // namespace farsight
