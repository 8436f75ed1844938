// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cross_entropy_cpu.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/matmul.h"
#include "kernels/parallel_for.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

// One call: what does not change from chunk to chunk.
struct Problem {
  const Tensor& x;
  const Tensor& weight;
  std::span<const int32_t> labels;
  const VocabularyShard* shard;  // null: the whole vocabulary is here
  Tensor device_labels;          // where x is on a device
  double smoothing;
  int64_t vocabulary;  // of the whole model
  int64_t first;       // global id of the weight's first row
  int64_t columns;     // rows of the weight that are not padding
};

// One chunk: what its rows need between the passes. All tensors are where x is.
struct Chunk {
  int64_t begin;
  Tensor x, z;     // [rows, C], [rows, V here]
  Tensor largest;  // f32 [rows]
  Tensor sums;     // f64 [rows, 3]: sum e^(z - m), z_y - m, sum (z - m)
  int64_t rows() const { return x.rows(); }
};

void check(const Tensor& x, const Tensor& weight, std::span<const int32_t> labels, const VocabularyShard* shard) {
  if (weight.rank() != 2 || x.cols() != weight.dim(1) || x.rows() != static_cast<int64_t>(labels.size())) {
    fail(ErrorKind::internal, "cross_entropy: x has shape {}, the weight {}, and there are {} labels",
         to_string(x.shape()), to_string(weight.shape()), labels.size());
  }
  const int64_t vocabulary = shard == nullptr ? weight.dim(0) : shard->vocabulary;
  for (size_t n = 0; n < labels.size(); ++n) {
    if (labels[n] < -1 || labels[n] >= vocabulary) {
      fail(ErrorKind::data, "cross_entropy: label {} of row {} is outside the vocabulary of {}", labels[n], n,
           vocabulary);
    }
  }
}

Problem make_problem(const Tensor& x, const Tensor& weight, std::span<const int32_t> labels,
                     const VocabularyShard* shard, double smoothing) {
  check(x, weight, labels, shard);
  const int64_t rows = weight.dim(0);
  const Tensor device_labels = x.device() == Device::cpu ? Tensor() : device_copy(labels);
  if (shard == nullptr) return {x, weight, labels, shard, device_labels, smoothing, rows, 0, rows};
  const int64_t columns = std::clamp<int64_t>(shard->vocabulary - shard->first, 0, rows);
  return {x, weight, labels, shard, device_labels, smoothing, shard->vocabulary, shard->first, columns};
}

// Each chunk reads the weight twice and its gradient once, and writes it: few rows would make that traffic dominate.
int64_t rows_per_chunk(int64_t wanted, int64_t rows, int64_t vocabulary) {
  constexpr int64_t kLogits = (int64_t{64} << 20) / 4;
  constexpr int64_t kRows = 256;
  const int64_t most = wanted > 0 ? wanted : std::max(kRows, kLogits / std::max<int64_t>(1, vocabulary));
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + chunks - 1) / chunks;
}

// Column of the row's label on this rank, or -1.
int64_t own_column(const Problem& p, int64_t row) {
  const int64_t column = p.labels[static_cast<size_t>(row)] - p.first;
  const bool own = p.labels[static_cast<size_t>(row)] >= 0 && column >= 0 && column < p.columns;
  return own ? column : -1;
}

void for_rows(int64_t rows, RangeFunction body) { parallel_for(rows, 1, body); }

CudaLogits device_logits(const Problem& p, const Chunk& chunk) {
  return {chunk.z.dtype(), chunk.rows(),  p.columns,
          p.weight.dim(0), chunk.z.raw(), static_cast<const int32_t*>(p.device_labels.raw()) + chunk.begin,
          p.first,         p.vocabulary};
}

void largest_logits(const Problem& p, const Chunk& chunk) {
  if (chunk.z.device() == Device::cuda) {
    cuda_device().run("cross-entropy", &CudaBackend::logit_maxima,
                      CudaLogitMaxima{device_logits(p, chunk), static_cast<float*>(chunk.largest.raw())});
    return;
  }
  const float* z = chunk.z.data<float>();
  float* largest = chunk.largest.data<float>();
  for_rows(chunk.rows(), [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) largest[r] = max_logit_cpu(z + r * p.weight.dim(0), p.columns);
  });
}

// On the CPU z becomes exponentials relative to the largest logit of the whole vocabulary.
void sum_logits(const Problem& p, const Chunk& chunk) {
  if (chunk.z.device() == Device::cuda) {
    cuda_device().run("cross-entropy", &CudaBackend::logit_sums,
                      CudaLogitSums{device_logits(p, chunk), static_cast<const float*>(chunk.largest.raw()),
                                    static_cast<double*>(chunk.sums.raw())});
    return;
  }
  const int64_t width = p.weight.dim(0);
  float* z = chunk.z.data<float>();
  for_rows(chunk.rows(), [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      const float m = chunk.largest.data<float>()[r];
      const int64_t column = own_column(p, chunk.begin + r);
      double* sums = chunk.sums.data<double>() + 3 * r;
      sums[1] = column < 0 ? 0.0 : static_cast<double>(z[r * width + column]) - static_cast<double>(m);
      const LogitSums s = exponentiate_logits_cpu(z + r * width, p.columns, m);
      sums[0] = s.exponentials;
      sums[2] = s.shifted;
    }
  });
}

void row_statistics(const Problem& p, const Chunk& chunk) {
  largest_logits(p, chunk);
  if (p.shard != nullptr) p.shard->all_reduce_max(chunk.largest);
  sum_logits(p, chunk);
  if (p.shard != nullptr) p.shard->all_reduce_sum(chunk.sums);
}

// Adds the losses of the chunk to `sums` and sets loss = scale * sums[0]. row_nll [N], f64, may be undefined.
void add_losses(const Problem& p, double scale, const Chunk& chunk, const Tensor& sums, const Tensor& loss,
                const Tensor& row_nll) {
  if (chunk.z.device() == Device::cuda) {
    auto* nll = static_cast<double*>(row_nll.raw());
    const CudaLogitLosses a{device_logits(p, chunk),
                            static_cast<const double*>(chunk.sums.raw()),
                            p.smoothing,
                            scale,
                            nll == nullptr ? nullptr : nll + chunk.begin,
                            static_cast<double*>(sums.raw()),
                            static_cast<float*>(loss.raw())};
    cuda_device().run("cross-entropy", &CudaBackend::logit_losses, a);
    return;
  }
  double* totals = sums.data<double>();
  for (int64_t r = 0; r < chunk.rows(); ++r) {
    const bool valid = p.labels[static_cast<size_t>(chunk.begin + r)] >= 0;
    const double* row = chunk.sums.data<double>() + 3 * r;
    const double nll = valid ? std::log(row[0]) - row[1] : 0.0;
    if (row_nll.defined()) row_nll.data<double>()[chunk.begin + r] = nll;
    if (!valid) continue;
    // (1 - e) nll + e mean_v(-log p_v)
    const double uniform = std::log(row[0]) - row[2] / static_cast<double>(p.vocabulary);
    totals[0] += p.smoothing == 0.0 ? nll : (1.0 - p.smoothing) * nll + p.smoothing * uniform;
    totals[1] += nll;
  }
  *loss.data<float>() = static_cast<float>(scale * totals[0]);
}

// z, on the CPU exponentials by now, into dlogits in place.
void logit_gradients(const Problem& p, double scale, const Chunk& chunk) {
  if (chunk.z.device() == Device::cuda) {
    const CudaLogitGradients a{device_logits(p, chunk), static_cast<const float*>(chunk.largest.raw()),
                               static_cast<const double*>(chunk.sums.raw()), p.smoothing, scale};
    cuda_device().run("cross-entropy", &CudaBackend::logit_gradients, a);
    return;
  }
  const int64_t width = p.weight.dim(0);
  const auto offset = static_cast<float>(scale * p.smoothing / static_cast<double>(p.vocabulary));
  const auto target = static_cast<float>(scale * (1.0 - p.smoothing));
  for_rows(chunk.rows(), [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      float* row = chunk.z.data<float>() + r * width;
      const bool valid = p.labels[static_cast<size_t>(chunk.begin + r)] >= 0;
      const int64_t columns = valid ? p.columns : 0;
      scale_logits_cpu(row, columns, static_cast<float>(scale / chunk.sums.data<double>()[3 * r]), offset);
      std::fill(row + columns, row + width, 0.0F);
      if (const int64_t column = own_column(p, chunk.begin + r); column >= 0) row[column] -= target;
    }
  });
}

// dx = dz W; on the CPU in slices of the vocabulary that are added up at the end: one fp32 sum over 250,007 terms, as
// the library's matrix-vector product takes it, is off by 2e-4.
void input_gradient(const Tensor& dz, const Tensor& weight, const Tensor& dx) {
  const int64_t slice = dz.device() == Device::cpu ? 8192 : std::max<int64_t>(1, weight.dim(0));
  const Tensor part = weight.dim(0) > slice ? Tensor::empty({dx.rows(), dx.cols()}) : Tensor();
  for (int64_t v = 0; v < weight.dim(0); v += slice) {
    const int64_t count = std::min(slice, weight.dim(0) - v);
    const Tensor& to = v == 0 ? dx : part;
    matmul(Transpose::no, Transpose::no, dz.narrow_last(v, count), weight.narrow(v, count), 0.0F, to);
    if (v > 0) add_rows(part, dx);
  }
}

Tensor flat_rows(const Tensor& x) { return x.rank() == 2 ? x : x.view({x.rows(), x.cols()}); }

// What to do with a chunk once its losses are known.
using ChunkGradient = std::function<void(const Chunk& chunk)>;

CrossEntropyResult run_chunks(const Problem& p, double scale, int64_t chunk_rows, const Tensor& loss,
                              const Tensor& row_nll, const ChunkGradient& gradient) {
  CrossEntropyResult result;
  result.valid = std::count_if(p.labels.begin(), p.labels.end(), [](int32_t label) { return label >= 0; });
  result.sums = Tensor::zeros({2}, DType::f64, MemoryTag::other, p.x.device());
  loss.fill_zero();
  const int64_t rows = p.x.rows();
  if (rows == 0) return result;
  const int64_t step = rows_per_chunk(chunk_rows, rows, p.weight.dim(0));
  const Tensor z = Tensor::empty({step, p.weight.dim(0)}, p.x.dtype(), MemoryTag::logits);
  const Tensor largest = Tensor::empty({step}), sums = Tensor::empty({step, 3}, DType::f64);
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const Chunk chunk{begin, p.x.narrow(begin, count), z.narrow(0, count), largest.narrow(0, count),
                      sums.narrow(0, count)};
    matmul(Transpose::no, Transpose::yes, chunk.x, p.weight, 0.0F, chunk.z);
    row_statistics(p, chunk);
    add_losses(p, scale, chunk, result.sums, loss, row_nll);
    if (gradient) gradient(chunk);
  }
  return result;
}

// On a device the host would have to wait for the number.
void check_seed(const Tensor& gradient) {
  if (gradient.device() != Device::cpu) return;
  const float seed = *gradient.data<float>();
  if (seed == 1.0F) return;
  fail(ErrorKind::internal, "cross_entropy: the gradient of the loss is {}, but was assumed to be 1 in forward", seed);
}

}  // namespace

CrossEntropyResult linear_cross_entropy(Tape& tape, const Var& x, Parameter& weight, std::span<const int32_t> labels,
                                        const CrossEntropyOptions& options) {
  const Tensor rows = flat_rows(x.value());
  const Problem p =
      make_problem(rows, weight.value, labels, options.shard, static_cast<double>(options.label_smoothing));
  const Tensor dx = tape.recording() && x.requires_grad() ? Tensor::empty(x.shape(), rows.dtype()) : Tensor();
  const Tensor flat_dx = dx.defined() ? flat_rows(dx) : Tensor();
  ChunkGradient gradient;
  if (tape.recording()) {
    gradient = [&](const Chunk& chunk) {
      logit_gradients(p, options.scale, chunk);
      const float beta = weight.begin_accumulate();
      matmul(Transpose::yes, Transpose::no, chunk.z, chunk.x, beta, weight.grad);
      if (dx.defined()) input_gradient(chunk.z, weight.value, flat_dx.narrow(chunk.begin, chunk.rows()));
    };
  }
  const Tensor loss = Tensor::empty({1});
  CrossEntropyResult result = run_chunks(p, options.scale, options.chunk_rows, loss, {}, gradient);
  result.loss = tape.variable(loss, {x}, /*uses_parameters=*/true);
  const Var out = result.loss;
  tape.record(out, {&weight}, [x, out, dx] {
    check_seed(out.grad());
    if (dx.defined()) give_gradient(x, dx);
  });
  return result;
}

Tensor logits(const Tensor& x, const Parameter& weight) {
  if (weight.value.rank() != 2 || x.cols() != weight.value.dim(1)) {
    fail(ErrorKind::internal, "logits: x has shape {}, '{}' {}", to_string(x.shape()), weight.name,
         to_string(weight.value.shape()));
  }
  Tensor z = Tensor::empty({x.rows(), weight.value.dim(0)}, DType::f32, MemoryTag::logits);
  matmul(Transpose::no, Transpose::yes, x, weight.value, 0.0F, z);
  return z;
}

CrossEntropyResult evaluate_cross_entropy(const Tensor& x, const Parameter& weight, std::span<const int32_t> labels,
                                          std::span<double> row_nll, int64_t chunk_rows) {
  if (row_nll.size() != labels.size()) {
    fail(ErrorKind::internal, "evaluate_cross_entropy: {} labels, room for {} losses", labels.size(), row_nll.size());
  }
  const Tensor rows = flat_rows(x);
  const Problem p = make_problem(rows, weight.value, labels, nullptr, 0.0);
  const Tensor nll = Tensor::empty({rows.rows()}, DType::f64), loss = Tensor::empty({1});
  CrossEntropyResult result = run_chunks(p, 1.0, chunk_rows, loss, nll, nullptr);
  const Tensor host = nll.to(Device::cpu);
  std::copy_n(host.data<double>(), row_nll.size(), row_nll.begin());
  return result;
}

}  // namespace farsight
