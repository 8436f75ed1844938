// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cross_entropy_cpu.h"
#include "kernels/error.h"
#include "kernels/matmul.h"
#include "kernels/parallel_for.h"

namespace farsight {
namespace {

// One call: what does not change from chunk to chunk.
struct Problem {
  const Tensor& x;
  const Tensor& weight;
  std::span<const int32_t> labels;
  const VocabularyShard* shard;  // null: the whole vocabulary is here
  double smoothing;
  int64_t vocabulary;  // of the whole model
  int64_t first;       // global id of the weight's first row
  int64_t columns;     // rows of the weight that are not padding
};

// What a row of one chunk needs between the passes.
struct ChunkRows {
  std::vector<float> largest;
  std::vector<double> sums;  // per row: sum e^(z - m), z_y - m, sum (z - m)
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
  if (shard == nullptr) return {x, weight, labels, shard, smoothing, rows, 0, rows};
  const int64_t columns = std::clamp<int64_t>(shard->vocabulary - shard->first, 0, rows);
  return {x, weight, labels, shard, smoothing, shard->vocabulary, shard->first, columns};
}

// Each chunk reads the weight twice and its gradient once, and writes it: few rows would make that traffic dominate.
int64_t rows_per_chunk(int64_t wanted, int64_t rows, int64_t vocabulary) {
  constexpr int64_t kLogits = (int64_t{64} << 20) / 4;
  constexpr int64_t kRows = 256;
  const int64_t most = wanted > 0 ? wanted : std::max(kRows, kLogits / std::max<int64_t>(1, vocabulary));
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + chunks - 1) / chunks;
}

void multiply_logits(const Tensor& x, const Tensor& weight, float* z) {
  matmul(Transpose::no, Transpose::yes, x.rows(), weight.dim(0), x.cols(), 1.0F, x.data<float>(), x.row_stride(),
         weight.data<float>(), x.cols(), 0.0F, z, weight.dim(0));
}

// Column of the row's label on this rank, or -1.
int64_t own_column(const Problem& p, int64_t row) {
  const int64_t column = p.labels[static_cast<size_t>(row)] - p.first;
  const bool own = p.labels[static_cast<size_t>(row)] >= 0 && column >= 0 && column < p.columns;
  return own ? column : -1;
}

void for_rows(int64_t rows, RangeFunction body) { parallel_for(rows, 1, body); }

// Turns z into exponentials relative to the largest logit of the whole vocabulary.
void row_statistics(const Problem& p, int64_t begin, int64_t rows, float* z, ChunkRows& chunk) {
  const int64_t width = p.weight.dim(0);
  chunk.largest.resize(static_cast<size_t>(rows));
  chunk.sums.resize(static_cast<size_t>(3 * rows));
  for_rows(rows, [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      chunk.largest[static_cast<size_t>(r)] = max_logit_cpu(z + r * width, p.columns);
    }
  });
  if (p.shard != nullptr) p.shard->all_reduce_max(chunk.largest);
  for_rows(rows, [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      const float m = chunk.largest[static_cast<size_t>(r)];
      const int64_t column = own_column(p, begin + r);
      double* sums = chunk.sums.data() + 3 * r;
      sums[1] = column < 0 ? 0.0 : static_cast<double>(z[r * width + column]) - static_cast<double>(m);
      const LogitSums s = exponentiate_logits_cpu(z + r * width, p.columns, m);
      sums[0] = s.exponentials;
      sums[2] = s.shifted;
    }
  });
  if (p.shard != nullptr) p.shard->all_reduce_sum(chunk.sums);
}

void add_losses(const Problem& p, int64_t begin, int64_t rows, const ChunkRows& chunk, CrossEntropyResult& result,
                std::span<double> row_nll) {
  for (int64_t r = 0; r < rows; ++r) {
    const auto n = static_cast<size_t>(begin + r);
    const bool valid = p.labels[n] >= 0;
    const double* sums = chunk.sums.data() + 3 * r;
    const double nll = valid ? std::log(sums[0]) - sums[1] : 0.0;
    if (!row_nll.empty()) row_nll[n] = nll;
    if (!valid) continue;
    // (1 - e) nll + e mean_v(-log p_v)
    const double uniform = std::log(sums[0]) - sums[2] / static_cast<double>(p.vocabulary);
    result.nll_sum += nll;
    result.loss_sum += p.smoothing == 0.0 ? nll : (1.0 - p.smoothing) * nll + p.smoothing * uniform;
    ++result.valid;
  }
}

// Exponentials into dlogits, in place.
void logit_gradients(const Problem& p, double scale, int64_t begin, int64_t rows, const ChunkRows& chunk, float* z) {
  const int64_t width = p.weight.dim(0);
  const auto offset = static_cast<float>(scale * p.smoothing / static_cast<double>(p.vocabulary));
  const auto target = static_cast<float>(scale * (1.0 - p.smoothing));
  for_rows(rows, [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      float* row = z + r * width;
      const bool valid = p.labels[static_cast<size_t>(begin + r)] >= 0;
      const int64_t columns = valid ? p.columns : 0;
      scale_logits_cpu(row, columns, static_cast<float>(scale / chunk.sums[static_cast<size_t>(3 * r)]), offset);
      std::fill(row + columns, row + width, 0.0F);
      if (const int64_t column = own_column(p, begin + r); column >= 0) row[column] -= target;
    }
  });
}

void add(const float* from, int64_t count, float* to) {
  parallel_for(count, 8192, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] += from[i];
  });
}

// dx = dz W, in slices of the vocabulary that are added up at the end: one fp32 sum over 250,007 terms, as the
// library's matrix-vector product takes it, is off by 2e-4.
void input_gradient(const float* dz, int64_t rows, const Tensor& weight, float* dx) {
  constexpr int64_t kSlice = 8192;
  const int64_t vocabulary = weight.dim(0), width = weight.dim(1);
  const Tensor slice = Tensor::empty({rows, width});
  for (int64_t v = 0; v < vocabulary; v += kSlice) {
    float* to = v == 0 ? dx : slice.data<float>();
    matmul(Transpose::no, Transpose::no, rows, width, std::min(kSlice, vocabulary - v), 1.0F, dz + v, vocabulary,
           weight.data<float>() + v * width, width, 0.0F, to, width);
    if (v > 0) add(to, rows * width, dx);
  }
}

void accumulate_gradients(const Tensor& x, const float* dz, Parameter& weight, float* dx) {
  const int64_t vocabulary = weight.value.dim(0), width = x.cols();
  matmul(Transpose::yes, Transpose::no, vocabulary, width, x.rows(), 1.0F, dz, vocabulary, x.data<float>(),
         x.row_stride(), weight.begin_accumulate(), weight.grad.data<float>(), width);
  if (dx != nullptr) input_gradient(dz, x.rows(), weight.value, dx);
}

Tensor flat_rows(const Tensor& x) { return x.rank() == 2 ? x : x.view({x.rows(), x.cols()}); }

// What to do with the exponentials of a chunk once its losses are known.
using ChunkGradient = std::function<void(int64_t begin, const Tensor& x, const ChunkRows& chunk, float* z)>;

CrossEntropyResult run_chunks(const Problem& p, int64_t chunk_rows, std::span<double> row_nll,
                              const ChunkGradient& gradient) {
  CrossEntropyResult result;
  const int64_t rows = p.x.rows();
  if (rows == 0) return result;
  const int64_t step = rows_per_chunk(chunk_rows, rows, p.weight.dim(0));
  const Tensor z = Tensor::empty({step, p.weight.dim(0)}, DType::f32, MemoryTag::logits);
  ChunkRows chunk;
  for (int64_t begin = 0; begin < rows; begin += step) {
    const Tensor x = p.x.narrow(begin, std::min(step, rows - begin));
    multiply_logits(x, p.weight, z.data<float>());
    row_statistics(p, begin, x.rows(), z.data<float>(), chunk);
    add_losses(p, begin, x.rows(), chunk, result, row_nll);
    if (gradient) gradient(begin, x, chunk, z.data<float>());
  }
  return result;
}

void check_seed(const Tensor& gradient) {
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
  const Tensor dx = tape.recording() && x.requires_grad() ? Tensor::empty(x.shape()) : Tensor();
  ChunkGradient gradient;
  if (tape.recording()) {
    gradient = [&](int64_t begin, const Tensor& part, const ChunkRows& chunk, float* z) {
      logit_gradients(p, options.scale, begin, part.rows(), chunk, z);
      accumulate_gradients(part, z, weight, dx.defined() ? dx.data<float>() + begin * part.cols() : nullptr);
    };
  }
  CrossEntropyResult result = run_chunks(p, options.chunk_rows, {}, gradient);
  Tensor loss = Tensor::empty({1});
  *loss.data<float>() = static_cast<float>(options.scale * result.loss_sum);
  result.loss = tape.variable(std::move(loss), {x}, /*uses_parameters=*/true);
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
  multiply_logits(x, weight.value, z.data<float>());
  return z;
}

CrossEntropyResult evaluate_cross_entropy(const Tensor& x, const Parameter& weight, std::span<const int32_t> labels,
                                          std::span<double> row_nll, int64_t chunk_rows) {
  if (row_nll.size() != labels.size()) {
    fail(ErrorKind::internal, "evaluate_cross_entropy: {} labels, room for {} losses", labels.size(), row_nll.size());
  }
  const Tensor rows = flat_rows(x);
  return run_chunks(make_problem(rows, weight.value, labels, nullptr, 0.0), chunk_rows, row_nll, nullptr);
}

}  // namespace farsight
