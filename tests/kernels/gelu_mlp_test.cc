// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu_mlp.h"

#include <cstdlib>
#include <numbers>
#include <string>

#include "kernels/error.h"
#include "kernels/gelu.h"
#include "kernels/linear.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

const double kRoot = std::sqrt(2.0 / std::numbers::pi);
double gelu_of(double x) { return 0.5 * x * (1.0 + std::tanh(kRoot * (x + 0.044715 * x * x * x))); }

Vec affine(const Vec& x, const Vec& w, const Vec& b, int64_t rows, int64_t in, int64_t out) {
  Vec y;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double s = b.empty() ? 0.0 : b[static_cast<size_t>(o)];
      for (int64_t i = 0; i < in; ++i) s += x[static_cast<size_t>(r * in + i)] * w[static_cast<size_t>(o * in + i)];
      y.push_back(s);
    }
  }
  return y;
}

struct Case {
  int64_t rows, in, hidden, out, margin;
  bool up_bias, down_bias, fused;  // fused: on a device in bf16
};

struct Numbers {
  Vec x, up, up_bias, down, down_bias;

  explicit Numbers(const Case& c)
      : x(random_vec(1, c.rows * c.in)),
        up(random_vec(2, c.hidden * c.in, 0.5)),
        up_bias(c.up_bias ? random_vec(3, c.hidden) : Vec{}),
        down(random_vec(4, c.out * c.hidden, 0.5)),
        down_bias(c.down_bias ? random_vec(5, c.out) : Vec{}) {}
};

Vec oracle(const Case& c, const Numbers& n) {
  Vec hidden = affine(n.x, n.up, n.up_bias, c.rows, c.in, c.hidden);
  for (auto& h : hidden) h = gelu_of(h);
  return affine(hidden, n.down, n.down_bias, c.rows, c.hidden, c.out);
}

// Parameters with these values; null where there is no bias.
struct Weights {
  ParameterStore store;
  Parameter *up, *up_bias = nullptr, *down, *down_bias = nullptr;

  Weights(const Case& c, const Numbers& n, const Residency& residency) {
    up = &add_parameter(store, "up", {c.hidden, c.in});
    if (c.up_bias) up_bias = &add_parameter(store, "up_bias", {c.hidden});
    down = &add_parameter(store, "down", {c.out, c.hidden});
    if (c.down_bias) down_bias = &add_parameter(store, "down_bias", {c.out});
    store.allocate(residency);
    if (residency.values) give(n);
  }
  Weights(const Case& c, const Numbers& n) : Weights(c, n, {.value_type = element()}) {}
  void give(const Numbers& n) const {
    assign(up->value, n.up);
    if (up_bias != nullptr) assign(up_bias->value, n.up_bias);
    assign(down->value, n.down);
    if (down_bias != nullptr) assign(down_bias->value, n.down_bias);
  }
  GeluMlp mlp() const { return {*up, up_bias, *down, down_bias}; }
};

// All gradients of dot(y, dy) against differences of the oracle, times `uses`.
void expect_gradients(const Case& c, const Numbers& n, const Weights& w, const Var& x, const Vec& dy, double uses) {
  const auto slope = [&](Vec Numbers::*which) {
    return numeric_gradient(
        [&](const Vec& v) {
          Numbers changed = n;
          changed.*which = v;
          return uses * dot(oracle(c, changed), dy);
        },
        n.*which);
  };
  expect_close(to_vec(x.grad()), slope(&Numbers::x), 2e-5, "dx");
  expect_close(to_vec(w.up->grad), slope(&Numbers::up), 2e-5, "d up");
  expect_close(to_vec(w.down->grad), slope(&Numbers::down), 2e-5, "d down");
  if (c.up_bias) expect_close(to_vec(w.up_bias->grad), slope(&Numbers::up_bias), 2e-5, "d up bias");
  if (c.down_bias) expect_close(to_vec(w.down_bias->grad), slope(&Numbers::down_bias), 2e-5, "d down bias");
}

bool on_device() { return current_device() == Device::cuda; }

class GeluMlpTest : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, GeluMlpTest, ::testing::ValuesIn(targets()), target_name);

const Case kCases[] = {
    {9, 16, 24, 8, 0, true, true, true},    // GPT-2, and its tensor rank's part: no bias behind
    {7, 8, 40, 16, 8, true, false, true},   // rows with a stride
    {5, 24, 16, 8, 0, false, false, true},  // no bias at all
    {1, 8, 8, 8, 0, false, true, true},     // one row
    {6, 16, 20, 8, 0, true, true, false},   // from here on one of the widths, or the rows, do not allow it
    {4, 7, 16, 8, 0, true, true, false},    //
    {4, 16, 16, 3, 0, true, true, false},   //
    {4, 16, 16, 8, 3, true, true, false},   //
};

TEST_P(GeluMlpTest, ValuesAndGradientsEqualFp64Oracle) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(fmt::format("{} rows, {} -> {} -> {}, margin {}", c.rows, c.in, c.hidden, c.out, c.margin));
    const Numbers n(c);
    const Weights w(c, n);
    const Vec dy = random_vec(6, c.rows * c.out);
    Tape tape;
    const Var x = tape.input(to_tensor(n.x, {c.rows, c.in}, c.margin), /*requires_grad=*/true);
    const Var y = gelu_mlp(tape, x, w.mlp());
    expect_close(to_vec(y.value()), oracle(c, n), 2e-6, "y");
    tape.backward(weighted_sum(tape, {y}, {dy}));
    expect_gradients(c, n, w, x, dy, 1.0);
    if (on_device()) {
      const bool fused = cuda_device().notes().at("gelu") == "part of the matrix products";
      EXPECT_EQ(fused, c.fused && element() == DType::bf16) << cuda_device().notes().at("gelu");
    }
  }
}

// Only the emulated library can be told to have none.
TEST_P(GeluMlpTest, DoesWithoutALibraryThatHasTheProducts) {
  if (!on_device() || std::string(cuda_device().info().name) != "CUDA emulated on the CPU") return;
  const Case& c = kCases[0];
  const Numbers n(c);
  const Weights w(c, n);
  setenv("FARSIGHT_EMULATION_GELU", "0", 1);
  Tape tape;
  const Var x = tape.input(to_tensor(n.x, {c.rows, c.in}), /*requires_grad=*/true);
  const Var y = gelu_mlp(tape, x, w.mlp());
  unsetenv("FARSIGHT_EMULATION_GELU");
  expect_close(to_vec(y.value()), oracle(c, n), 2e-6, "y");
  const std::string note = cuda_device().notes().at("gelu");
  EXPECT_NE(note.find(element() == DType::bf16 ? "the library has no such product" : "f32"), std::string::npos) << note;
}

TEST_P(GeluMlpTest, AddsUpWhenUsedTwiceAndOverMicroBatches) {
  const Case& c = kCases[0];
  const Numbers n(c);
  const Weights w(c, n);
  const Vec dy = random_vec(6, c.rows * c.out);
  Var x;
  for (int micro = 0; micro < 2; ++micro) {
    Tape tape;
    x = tape.input(to_tensor(n.x, {c.rows, c.in}), /*requires_grad=*/true);
    const Var first = gelu_mlp(tape, x, w.mlp()), second = gelu_mlp(tape, x, w.mlp());
    tape.backward(weighted_sum(tape, {first, second}, {dy, dy}));
  }
  Vec dx = to_vec(x.grad());
  for (auto& d : dx) d *= 2.0;  // of one micro-batch, the parameters have both
  Tape tape;
  const Var both = tape.input(to_tensor(n.x, {c.rows, c.in}), /*requires_grad=*/true);
  const Gradient g = both.begin_gradient();
  copy_rows(to_tensor(dx, {c.rows, c.in}), g.tensor);
  expect_gradients(c, n, w, both, dy, 4.0);
}

// Sharded parameters come and go: in backward they lie elsewhere.
TEST_P(GeluMlpTest, ParametersMayMoveBetweenForwardAndBackward) {
  const Case& c = kCases[0];
  const Numbers n(c);
  Weights w(c, n, {.values = false, .value_type = element()});
  const Vec dy = random_vec(6, c.rows * c.out);
  const auto bind = [&] {
    const Tensor slab = Tensor::empty({w.store.slab_elements()}, element());
    fill(slab, 0.0F);
    w.store.bind_values(0, slab);
    w.give(n);
    return slab;
  };
  const Tensor first = bind();
  Tape tape;
  const Var x = tape.input(to_tensor(n.x, {c.rows, c.in}), /*requires_grad=*/true);
  const Var y = gelu_mlp(tape, x, w.mlp());
  fill(first, std::numeric_limits<float>::quiet_NaN());
  const Tensor second = bind();
  tape.backward(weighted_sum(tape, {y}, {dy}));
  expect_gradients(c, n, w, x, dy, 1.0);
}

TEST_P(GeluMlpTest, BackwardReportsTheLastParametersFirst) {
  const Case& c = kCases[0];
  const Numbers n(c);
  const Weights w(c, n);
  for (const bool recompute : {false, true}) {
    Tape tape;
    std::vector<std::string> ready;
    tape.on_gradient_ready([&](Parameter& p) { ready.push_back(p.name); });
    const Var x = tape.input(to_tensor(n.x, {c.rows, c.in}), /*requires_grad=*/true);
    const auto layer = [&](Tape& t, const std::vector<Var>& in) {
      return std::vector<Var>{gelu_mlp(t, in.front(), w.mlp())};
    };
    const Var y = recompute ? tape.recompute({x}, layer).front() : layer(tape, {x}).front();
    tape.backward(weighted_sum(tape, {y}, {Vec(static_cast<size_t>(c.rows * c.out), 1.0)}));
    EXPECT_EQ(ready.size(), 4U);
    if (recompute) continue;  // the segment is one operation
    EXPECT_EQ(ready, (std::vector<std::string>{"down", "down_bias", "up", "up_bias"}));
  }
}

TEST_P(GeluMlpTest, RecomputationChangesNoBit) {
  const Case& c = kCases[0];
  const Numbers n(c);
  const Vec dy = random_vec(6, c.rows * c.out);
  std::vector<Vec> results[2];
  for (const bool recompute : {false, true}) {
    const Weights w(c, n);
    Tape tape;
    const Var x = tape.input(to_tensor(n.x, {c.rows, c.in}), /*requires_grad=*/true);
    const auto layer = [&](Tape& t, const std::vector<Var>& in) {
      return std::vector<Var>{gelu_mlp(t, in.front(), w.mlp())};
    };
    const Var y = recompute ? tape.recompute({x}, layer).front() : layer(tape, {x}).front();
    const Vec forward = to_vec(y.value());
    tape.backward(weighted_sum(tape, {y}, {dy}));
    results[recompute ? 1 : 0] = {forward,
                                  to_vec(x.grad()),
                                  to_vec(w.up->grad),
                                  to_vec(w.down->grad),
                                  to_vec(w.up_bias->grad),
                                  to_vec(w.down_bias->grad)};
  }
  EXPECT_EQ(results[0], results[1]);
}

// Peak of forward and backward. The parts are fullest in the backward of GELU, which holds four of the hidden layer;
// the whole in that of the second product, which holds three, the result and its gradient.
TEST_P(GeluMlpTest, HoldsNoMoreThanItsParts) {
  if (!on_device()) return;  // there it is its parts
  const Case c{256, 64, 256, 64, 0, true, true, true};
  const Numbers n(c);
  const Weights w(c, n);
  const Tensor input = to_tensor(n.x, {c.rows, c.in}), dy = to_tensor(Vec(n.x.size(), 1.0), {c.rows, c.out});
  const auto peak = [&](const std::function<Var(Tape&, const Var&)>& mlp) {
    cuda_device().reset_peak();
    const int64_t before = cuda_device().memory().peak_bytes;
    Tape tape;
    const Var y = mlp(tape, tape.input(input, /*requires_grad=*/true));
    const Var root = tape.variable(Tensor::zeros({1}), {y});
    tape.record(root, {}, [y, dy] { give_gradient(y, dy.clone()); });
    tape.backward(root);
    return cuda_device().memory().peak_bytes - before;
  };
  const int64_t whole = peak([&](Tape& t, const Var& x) { return gelu_mlp(t, x, w.mlp()); });
  const int64_t parts = peak(
      [&](Tape& t, const Var& x) { return linear(t, gelu(t, linear(t, x, *w.up, w.up_bias)), *w.down, w.down_bias); });
  if (element() == DType::bf16) {
    EXPECT_EQ(parts - whole, c.rows * (c.hidden - 2 * c.out) * size_of(element())) << whole;
  } else {
    EXPECT_EQ(whole, parts);
  }
}

TEST_P(GeluMlpTest, SizesThatDoNotMatchAreRefused) {
  const Case& c = kCases[0];
  const Weights w(c, Numbers(c));
  Tape tape;
  EXPECT_THROW(gelu_mlp(tape, tape.input(to_tensor(Vec(8, 1.0), {1, 8})), w.mlp()), Error);
  const Var x = tape.input(to_tensor(Vec(16, 1.0), {1, 16}));
  EXPECT_THROW(gelu_mlp(tape, x, {*w.up, w.up_bias, *w.up, nullptr}), Error);
  EXPECT_THROW(gelu_mlp(tape, x, {*w.up, w.down_bias, *w.down, nullptr}), Error);
}

}  // namespace
}  // namespace farsight
