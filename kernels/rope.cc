// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.h"

#include <cmath>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/rope_cpu.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

void rotate(const Tensor& x, const RopeTable& table, bool inverse) {
  const int64_t half = table.head_width / 2;
  if (x.device() == Device::cuda) {
    const CudaRopeRows a{x.dtype(),
                         x.rows(),
                         x.cols() / table.head_width,
                         half,
                         x.raw(),
                         x.row_stride(),
                         static_cast<const float*>(table.cosine.raw()),
                         static_cast<const float*>(table.sine.raw()),
                         inverse};
    cuda_device().run("rope", &CudaBackend::rope_rows, a);
    return;
  }
  rope_rows_cpu(
      {table.cosine.data<float>(), table.sine.data<float>(), x.rows(), x.cols() / table.head_width, half, inverse},
      x.data<float>(), x.row_stride());
}

}  // namespace

RopeTable rope_table(const Tensor& positions, double theta, int64_t head_width) {
  if (head_width <= 0 || head_width % 2 != 0) fail(ErrorKind::internal, "rope: head width {} is not even", head_width);
  const int64_t half = head_width / 2;
  const int64_t rows = positions.numel();
  std::vector<double> frequency(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i) {
    frequency[static_cast<size_t>(i)] =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_width));
  }
  const RopeTable table{head_width, Tensor::empty({rows, half}), Tensor::empty({rows, half})};
  if (positions.device() == Device::cuda) {
    const Tensor turns = device_copy(frequency);
    const CudaRopeTable a{rows,
                          half,
                          static_cast<const int32_t*>(positions.raw()),
                          static_cast<const double*>(turns.raw()),
                          static_cast<float*>(table.cosine.raw()),
                          static_cast<float*>(table.sine.raw())};
    cuda_device().run("rope_table", &CudaBackend::rope_table, a);
    return table;
  }
  const int32_t* position = positions.data<int32_t>();
  float* cosine = table.cosine.data<float>();
  float* sine = table.sine.data<float>();
  parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = position[r] * frequency[static_cast<size_t>(i)];
        cosine[r * half + i] = static_cast<float>(std::cos(angle));
        sine[r * half + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
  return table;
}

Var rope(Tape& tape, const Var& x, const RopeTable& table) {
  const Tensor& value = x.value();
  if (table.head_width == 0 || value.cols() % table.head_width != 0 || table.cosine.rows() != value.rows()) {
    fail(ErrorKind::internal, "rope: x has shape {}, the table is for {} rows and heads of {}",
         to_string(value.shape()), table.cosine.defined() ? table.cosine.rows() : 0, table.head_width);
  }
  // One part that covers x: it shares both value and gradient memory with x.
  const Var out = tape.split_last(x, {value.cols()}).front();
  rotate(value, table, /*inverse=*/false);
  tape.record(out, {}, [out, table] { rotate(out.grad(), table, /*inverse=*/true); });
  return out;
}

std::pair<Var, Var> rope(Tape& tape, const Var& q, const Var& k, const RopeTable& table) {
  return {rope(tape, q, table), rope(tape, k, table)};
}

}  // namespace farsight
