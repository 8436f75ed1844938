// SPDX-License-Identifier: Apache-2.0
// Sharded products equal the whole ones: values, gradients of inputs, weights and biases, for any number of ranks,
// with and without activations sharded by rows.
#include "parallel/tensor_parallel.h"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "kernels/linear.h"
#include "parallel/inproc_comm.h"
#include "parallel/tiled_rows.h"

namespace farsight {
namespace {

using Vec = std::vector<double>;

Vec random_vec(uint64_t seed, int64_t n) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  Vec v(static_cast<size_t>(n));
  for (auto& x : v) x = static_cast<double>(static_cast<float>(normal(engine)));
  return v;
}

// Rows [r0, r1) and columns [c0, c1) of a matrix with `cols` columns.
Tensor block(const Vec& v, int64_t cols, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
  Tensor t = Tensor::empty({r1 - r0, c1 - c0});
  for (int64_t r = r0; r < r1; ++r) {
    for (int64_t c = c0; c < c1; ++c) {
      t.data<float>()[(r - r0) * (c1 - c0) + c - c0] = static_cast<float>(v[static_cast<size_t>(r * cols + c)]);
    }
  }
  return t;
}

double worst(const Tensor& t, const Vec& v, int64_t cols, int64_t r0, int64_t c0) {
  double error = 0.0;
  for (int64_t r = 0; r < t.rows(); ++r) {
    for (int64_t c = 0; c < t.cols(); ++c) {
      const double want = v[static_cast<size_t>((r0 + r) * cols + c0 + c)];
      const double have = static_cast<double>(t.data<float>()[r * t.row_stride() + c]);
      error = std::max(error, std::abs(have - want) / (1.0 + std::abs(want)));
    }
  }
  return error;
}

// out = f(x A^T + a) B^T + b with f(h) = h: a column product, then a row product. Gradients of sum(out * dout), fp64.
struct Dense {
  int64_t rows, in, hidden, out;
  Vec x, a_weight, a_bias, b_weight, b_bias, dout;
  Vec h, y, dx, da, da_bias, db, db_bias;

  Dense(int64_t rows_, int64_t in_, int64_t hidden_, int64_t out_) : rows(rows_), in(in_), hidden(hidden_), out(out_) {
    x = random_vec(1, rows * in);
    a_weight = random_vec(2, hidden * in);
    a_bias = random_vec(3, hidden);
    b_weight = random_vec(4, out * hidden);
    b_bias = random_vec(5, out);
    dout = random_vec(6, rows * out);
    h = product(x, a_weight, a_bias, rows, in, hidden);
    y = product(h, b_weight, b_bias, rows, hidden, out);
    const Vec dh = back(dout, b_weight, rows, hidden, out);
    dx = back(dh, a_weight, rows, in, hidden);
    da = outer(dh, x, rows, hidden, in);
    db = outer(dout, h, rows, out, hidden);
    da_bias = sums(dh, rows, hidden);
    db_bias = sums(dout, rows, out);
  }
  static Vec product(const Vec& x, const Vec& w, const Vec& b, int64_t rows, int64_t in, int64_t out) {
    Vec y(static_cast<size_t>(rows * out));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = b[static_cast<size_t>(o)];
        for (int64_t i = 0; i < in; ++i) sum += x[static_cast<size_t>(r * in + i)] * w[static_cast<size_t>(o * in + i)];
        y[static_cast<size_t>(r * out + o)] = sum;
      }
    }
    return y;
  }
  static Vec back(const Vec& dy, const Vec& w, int64_t rows, int64_t in, int64_t out) {
    Vec dx(static_cast<size_t>(rows * in), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        for (int64_t i = 0; i < in; ++i) {
          dx[static_cast<size_t>(r * in + i)] +=
              dy[static_cast<size_t>(r * out + o)] * w[static_cast<size_t>(o * in + i)];
        }
      }
    }
    return dx;
  }
  static Vec outer(const Vec& dy, const Vec& x, int64_t rows, int64_t out, int64_t in) {
    Vec dw(static_cast<size_t>(out * in), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        for (int64_t i = 0; i < in; ++i) {
          dw[static_cast<size_t>(o * in + i)] +=
              dy[static_cast<size_t>(r * out + o)] * x[static_cast<size_t>(r * in + i)];
        }
      }
    }
    return dw;
  }
  static Vec sums(const Vec& dy, int64_t rows, int64_t out) {
    Vec s(static_cast<size_t>(out), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out; ++o) s[static_cast<size_t>(o)] += dy[static_cast<size_t>(r * out + o)];
    }
    return s;
  }
};

Var seeded(Tape& tape, const Var& y, const Tensor& dout) {
  const Var root = tape.variable(Tensor::zeros({1}), {y});
  tape.record(root, {}, [y, dout] {
    const Gradient dy = y.begin_gradient();
    std::copy_n(dout.data<float>(), dout.numel(), dy.tensor.data<float>());
  });
  return root;
}

// One rank's part of the whole computation; returns its largest relative error.
double run_rank(Communicator& comm, const Dense& d, bool sequence, bool recompute, int64_t chunk = 0) {
  const TensorGroup group{&comm, sequence, d.rows};
  const int me = comm.rank();
  const int64_t n = comm.size();
  const int64_t f0 = d.hidden * me / n, f1 = d.hidden * (me + 1) / n;
  const int64_t r0 = group.first_row(me), r1 = r0 + group.row_count(me);
  ParameterStore store;
  Parameter& a = store.add("a", {f1 - f0, d.in}, {});
  Parameter& a_bias = store.add("a.bias", {f1 - f0}, {});
  Parameter& b = store.add("b", {d.out, f1 - f0}, {});
  Parameter& b_bias = store.add("b.bias", {d.out}, {});
  store.allocate();
  const auto assign = [](const Parameter& p, const Tensor& t) {
    std::copy_n(t.data<float>(), t.numel(), p.value.data<float>());
  };
  assign(a, block(d.a_weight, d.in, f0, f1, 0, d.in));
  assign(a_bias, block(d.a_bias, 1, f0, f1, 0, 1));
  assign(b, block(d.b_weight, d.hidden, 0, d.out, f0, f1));
  assign(b_bias, block(d.b_bias, 1, 0, d.out, 0, 1));
  Tape tape;
  const Var x = tape.input(block(d.x, d.in, r0, r1, 0, d.in), /*requires_grad=*/true);
  Parameter* const weights[] = {&a};
  Parameter* const biases[] = {&a_bias};
  const auto layer = [&](Tape& t, const std::vector<Var>& in) {
    if (chunk > 0) {
      return std::vector<Var>{
          tiled_rows(t, group, in[0], chunk, d.out, {&a, &a_bias, &b}, &b_bias,
                     [&](Tape& tile, const Var& rows) { return linear(tile, linear(tile, rows, a, &a_bias), b); })};
    }
    const Var h = column_linear(t, group, in[0], weights, biases);
    return std::vector<Var>{row_linear(t, group, h, b, &b_bias)};
  };
  const Var y = recompute ? tape.recompute({x}, layer).front() : layer(tape, {x}).front();
  double error = worst(y.value(), d.y, d.out, r0, 0);
  const Var root = seeded(tape, y, block(d.dout, d.out, r0, r1, 0, d.out));
  tape.backward(root);
  for (Parameter& p : store.parameters()) p.zero_if_fresh();
  error = std::max(error, worst(a.grad, d.da, d.in, f0, 0));
  error = std::max(error, worst(a_bias.grad.view({f1 - f0, 1}), d.da_bias, 1, f0, 0));
  error = std::max(error, worst(b.grad, d.db, d.hidden, 0, f0));
  if (sequence) comm.all_reduce(b_bias.grad.span<float>(), ReduceOp::sum);  // partial over the tensor ranks
  error = std::max(error, worst(b_bias.grad.view({d.out, 1}), d.db_bias, 1, 0, 0));
  return std::max(error, worst(x.grad(), d.dx, d.in, r0, 0));
}

TEST(TensorParallel, ColumnThenRowEqualsTheWholeProducts) {
  for (const int64_t rows : {1, 3, 10}) {
    const Dense d(rows, 6, 11, 5);
    for (const int ranks : {1, 2, 3, 4}) {
      for (const bool sequence : {true, false}) {
        for (const bool recompute : {false, true}) {
          run_in_process(ranks, [&](Communicator& comm) {
            EXPECT_LE(run_rank(comm, d, sequence, recompute), 3e-6)
                << rows << " rows on " << ranks << " ranks, sequence " << sequence << ", recompute " << recompute;
          });
        }
      }
    }
  }
}

// The same a few rows at a time; chunks that divide the rows or not, or hold all of them.
TEST(TiledRows, EqualsTheWholeProducts) {
  const Dense d(10, 6, 11, 5);
  for (const int64_t chunk : {1, 3, 5, 10, 100}) {
    for (const int ranks : {1, 3}) {
      for (const bool sequence : {true, false}) {
        for (const bool recompute : {false, true}) {
          run_in_process(ranks, [&](Communicator& comm) {
            EXPECT_LE(run_rank(comm, d, sequence, recompute, chunk), 3e-6)
                << "chunks of " << chunk << " on " << ranks << " ranks, sequence " << sequence;
          });
        }
      }
    }
  }
}

// gather_rows and scatter_sum are each other's transpose: <S x, y> summed over ranks = <x, G y>.
TEST(TensorParallel, GatherAndScatterAreTransposed) {
  constexpr int64_t kRows = 7, kColumns = 3;
  for (const int ranks : {1, 2, 4}) {
    for (const bool sequence : {true, false}) {
      run_in_process(ranks, [&](Communicator& comm) {
        const TensorGroup group{&comm, sequence, kRows};
        const int me = comm.rank();
        const Vec mine = random_vec(10 + static_cast<uint64_t>(me), kRows * kColumns);
        const Vec other = random_vec(99, kRows * kColumns);
        Vec sum(mine.size(), 0.0);
        for (int r = 0; r < ranks; ++r) {
          const Vec part = random_vec(10 + static_cast<uint64_t>(r), kRows * kColumns);
          for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
        }
        const int64_t r0 = group.first_row(me), r1 = r0 + group.row_count(me);
        Tape tape;
        const Var x = tape.input(block(mine, kColumns, 0, kRows, 0, kColumns), /*requires_grad=*/true);
        const Var s = scatter_sum(tape, group, x);
        EXPECT_LE(worst(s.value(), sum, kColumns, r0, 0), 1e-6);
        tape.backward(seeded(tape, s, block(other, kColumns, r0, r1, 0, kColumns)));
        EXPECT_EQ(worst(x.grad(), other, kColumns, 0, 0), 0.0);
        const Var y = tape.input(block(other, kColumns, r0, r1, 0, kColumns), /*requires_grad=*/true);
        const Var g = gather_rows(tape, group, y);
        EXPECT_EQ(worst(g.value(), other, kColumns, 0, 0), 0.0);
        tape.backward(seeded(tape, g, block(mine, kColumns, 0, kRows, 0, kColumns)));
        EXPECT_LE(worst(y.grad(), sum, kColumns, r0, 0), 1e-6);
      });
    }
  }
}

TEST(TensorParallel, RowsThatDoNotBelongHereAreRefused) {
  auto self = make_self_communicator();
  ParameterStore store;
  Parameter& w = store.add("w", {2, 3}, {});
  store.allocate();
  Tape tape;
  Parameter* const weights[] = {&w};
  const TensorGroup group{self.get(), true, 5};
  EXPECT_THROW(column_linear(tape, group, tape.input(Tensor::zeros({4, 3})), weights, {}), Error);
  EXPECT_THROW(row_linear(tape, group, tape.input(Tensor::zeros({5, 4})), w, nullptr), Error);
}

}  // namespace
}  // namespace farsight
