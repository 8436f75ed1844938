// SPDX-License-Identifier: Apache-2.0
#include "kernels/tape.h"

#include <string>

#include "kernels/error.h"
#include "kernels/gelu.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

// y = p * x for a one-element parameter: dx = p dy, dp = x . dy.
Var scale(Tape& tape, const Var& x, Parameter& p) {
  const Tensor in = x.value();
  const float factor = *p.value.data<float>();
  Vec y = to_vec(in);
  for (auto& v : y) v *= static_cast<double>(factor);
  const Var out = tape.variable(to_tensor(y, in.shape()), {x}, /*uses_parameters=*/true);
  tape.record(out, {&p}, [x, out, in, factor, &p] {
    const Vec dy = to_vec(out.grad());
    float& dp = *p.grad.data<float>();
    const float beta = p.begin_accumulate();
    dp = beta * dp + static_cast<float>(dot(to_vec(in), dy));
    if (!x.requires_grad()) return;
    const Gradient g = x.begin_gradient();
    for (int64_t r = 0, k = 0; r < g.tensor.rows(); ++r) {
      for (int64_t c = 0; c < g.tensor.cols(); ++c, ++k) {
        float& at = g.tensor.data<float>()[r * g.tensor.row_stride() + c];
        at = factor * static_cast<float>(dy[static_cast<size_t>(k)]) + (g.beta == 0.0F ? 0.0F : at);
      }
    }
  });
  return out;
}

class TapeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b", "c"}) add_parameter(store_, name, {1});
    store_.allocate();
    float value = 2.0F;
    for (auto& p : store_.parameters()) {
      *p.value.data<float>() = value;
      *p.grad.data<float>() = 0.0F;
      value += 1.0F;
    }
  }
  Parameter& p(const char* name) { return *store_.find(name); }
  double grad(const char* name) { return static_cast<double>(*p(name).grad.data<float>()); }
  ParameterStore store_;
};

TEST_F(TapeTest, ValueUsedTwiceCollectsBothGradients) {
  Tape tape;
  const Var x = tape.input(to_tensor({1.0, 2.0}, {1, 2}), true);
  const Var y = scale(tape, x, p("a")), z = scale(tape, x, p("b"));
  tape.backward(weighted_sum(tape, {y, z}, {{1.0, 10.0}, {100.0, 1000.0}}));
  EXPECT_EQ(to_vec(x.grad()), (Vec{302.0, 3020.0}));
  EXPECT_EQ(grad("a"), 21.0);
  EXPECT_EQ(grad("b"), 2100.0);
}

TEST_F(TapeTest, SeedScalesEveryGradientAndTheLossStaysReadable) {
  Tape tape;
  const Var x = tape.input(to_tensor({1.0, 2.0}, {1, 2}), true);
  const Var root = weighted_sum(tape, {scale(tape, x, p("a"))}, {{1.0, 1.0}});
  tape.backward(root, 0.5F);
  EXPECT_EQ(to_vec(x.grad()), (Vec{1.0, 1.0}));
  EXPECT_EQ(*root.value().data<float>(), 6.0F);
}

TEST_F(TapeTest, GradientsAreReportedOnceEachInTheOrderTheyComplete) {
  Tape tape;
  std::vector<std::string> ready;
  tape.on_gradient_ready([&](Parameter& q) {
    // Complete means complete: the first layer's use of "a" has been added before "a" is reported.
    ready.push_back(q.name + "=" + std::to_string(static_cast<int>(*q.grad.data<float>())));
  });
  const Var x = tape.input(to_tensor({1.0}, {1, 1}), true);
  const Var y = scale(tape, scale(tape, scale(tape, x, p("a")), p("b")), p("a"));  // a^2 b
  tape.backward(weighted_sum(tape, {y}, {{1.0}}));
  EXPECT_EQ(ready, (std::vector<std::string>{"b=4", "a=12"}));
}

TEST_F(TapeTest, ParametersOfUnusedBranchesAreReportedToo) {
  Tape tape;
  std::vector<std::string> ready;
  tape.on_gradient_ready([&](Parameter& q) { ready.push_back(q.name); });
  const Var x = tape.input(to_tensor({1.0}, {1, 1}), true);
  const Var y = scale(tape, x, p("a"));
  scale(tape, x, p("b"));  // nobody reads it
  tape.backward(weighted_sum(tape, {y}, {{1.0}}));
  EXPECT_EQ(ready, (std::vector<std::string>{"b", "a"}));
  EXPECT_FALSE(p("b").grad_written);
}

TEST_F(TapeTest, WithoutRecordingNothingNeedsAGradient) {
  Tape tape(/*recording=*/false);
  const Var y = scale(tape, tape.input(to_tensor({1.0}, {1, 1}), true), p("a"));
  EXPECT_FALSE(y.requires_grad());
  EXPECT_THROW(y.grad(), Error);
  EXPECT_THROW(tape.backward(tape.input(Tensor::zeros({2}))), Error) << "root of two elements";
}

TEST_F(TapeTest, SplitPartsShareValueAndGradientMemory) {
  Tape tape;
  const Var x = tape.input(to_tensor({1, 2, 3, 4, 5, 6}, {2, 3}), true);
  const auto parts = tape.split_last(x, {1, 2});
  EXPECT_TRUE(parts[1].value().shares_storage(x.value()));
  const Var y = scale(tape, parts[1], p("a"));
  tape.backward(weighted_sum(tape, {parts[0], y}, {{7, 8}, {1, 2, 3, 4}}));
  EXPECT_EQ(to_vec(x.grad()), (Vec{7, 2, 4, 8, 6, 8}));
  EXPECT_THROW(tape.split_last(x, {1, 1}), Error);
}

TEST_F(TapeTest, UnusedSplitPartsHaveZeroGradient) {
  Tape tape;
  const Var x = tape.input(to_tensor({1, 2, 3, 4}, {2, 2}), true);
  const auto parts = tape.split_last(x, {1, 1});
  tape.backward(weighted_sum(tape, {parts[1]}, {{5, 6}}));
  EXPECT_EQ(to_vec(x.grad()), (Vec{0, 5, 0, 6}));
}

TEST_F(TapeTest, SplitsNest) {
  Tape tape;
  const Var x = tape.input(to_tensor({1, 2, 3, 4, 5, 6}, {2, 3}), true);
  const auto outer = tape.split_last(x, {1, 2});
  const auto inner = tape.split_last(outer[1], {1, 1});
  tape.backward(weighted_sum(tape, {outer[0], inner[0], inner[1]}, {{1, 2}, {3, 4}, {5, 6}}));
  EXPECT_EQ(to_vec(x.grad()), (Vec{1, 3, 5, 2, 4, 6}));
}

TEST_F(TapeTest, GradientsOfDroppedValuesKeepTheirShape) {
  Tape tape;
  const Var x = tape.input(to_tensor({1, 2, 3, 4}, {2, 2}), true);
  const Var y = scale(tape, x, p("a")), z = scale(tape, y, p("b"));
  y.drop_value();
  EXPECT_FALSE(y.value().defined());
  tape.backward(weighted_sum(tape, {z}, {{1, 1, 1, 1}}));
  EXPECT_EQ(to_vec(x.grad()), (Vec{6, 6, 6, 6}));
}

TEST_F(TapeTest, AdoptedBufferIsTheGradientUnlessThereIsOne) {
  Tape tape;
  const Var x = tape.input(Tensor::zeros({1, 2}), true);
  const Tensor buffer = to_tensor({3, 4}, {1, 2});
  EXPECT_TRUE(x.adopt_gradient(buffer));
  EXPECT_EQ(x.grad().raw(), buffer.raw());
  EXPECT_EQ(x.begin_gradient().beta, 1.0F);
  EXPECT_FALSE(x.adopt_gradient(Tensor::zeros({1, 2})));
  const Var whole = tape.input(Tensor::zeros({1, 2}), true);
  EXPECT_FALSE(tape.split_last(whole, {2})[0].adopt_gradient(buffer)) << "must lie inside the whole's gradient";
  EXPECT_THROW(tape.input(Tensor::zeros({3}), true).adopt_gradient(buffer), Error);
}

// A small residual block with everything a segment may hold.
class Recompute : public ::testing::Test {
 protected:
  struct Result {
    Vec y, dx, dr;
    std::vector<Vec> parameters;
    std::vector<std::string> ready;
    bool operator==(const Result&) const = default;
  };
  static constexpr int64_t kWidth = 6;

  static std::vector<Var> block(Tape& tape, const Var& x, const Var& r, ParameterStore& store) {
    auto get = [&](const char* name) -> Parameter& { return *store.find(name); };
    const std::vector<uint64_t> keys = {99};
    const Tensor positions = ids({0, 1, 2, 3, 4});
    const DropoutSite site{0.25, keys, positions, 5, 0};
    const NormResidual n = norm_residual(tape, x, r, get("norm"), nullptr, NormKind::rms, 1e-5F, &site);
    const Var hidden = linear(tape, n.normed, get("up"), nullptr);
    const auto parts = tape.split_last(hidden, {kWidth, 3});
    const Var again = linear(tape, gelu(tape, parts[0]), get("down"), nullptr);
    return {again, n.residual, linear(tape, parts[1], get("side"), nullptr)};
  }

  enum class Mode { direct, recompute, nested };

  static Result run(Mode mode) {
    ParameterStore store;
    store.add("norm", {kWidth}, {Init::Kind::normal, 1.0});
    store.add("up", {kWidth + 3, kWidth}, {Init::Kind::normal, 1.0});
    store.add("down", {kWidth, kWidth}, {Init::Kind::normal, 1.0});
    store.add("side", {kWidth, 3}, {Init::Kind::normal, 1.0});
    allocate(store);
    store.initialize(5);
    store.begin_gradients();
    Tape tape;
    Result result;
    tape.on_gradient_ready([&](Parameter& q) { result.ready.push_back(q.name); });
    // x is one half of a split, as projections are.
    const Var both = tape.input(to_tensor(random_vec(1, 5 * 2 * kWidth), {5, 2 * kWidth}), true);
    const auto halves = tape.split_last(both, {kWidth, kWidth});
    const Var r = tape.input(to_tensor(random_vec(2, 5 * kWidth), {5, kWidth}), true);
    const Tape::Segment segment = [&store](Tape& t, const std::vector<Var>& in) {
      return block(t, in[0], in[1], store);
    };
    const Tape::Segment outer = [&segment](Tape& t, const std::vector<Var>& in) { return t.recompute(in, segment); };
    std::vector<Var> outs = {halves[0], r};
    for (int layer = 0; layer < 2; ++layer) {
      const std::vector<Var> in = {outs[0], outs[1]};
      outs = mode == Mode::direct      ? segment(tape, in)
             : mode == Mode::recompute ? tape.recompute(in, segment)
                                       : tape.recompute(in, outer);
    }
    result.y = to_vec(outs[0].value());
    const Vec w = random_vec(3, 5 * kWidth), v = random_vec(4, 5 * kWidth);
    tape.backward(weighted_sum(tape, {outs[0], outs[1], outs[2], halves[1]}, {w, v, v, w}));
    result.dx = to_vec(both.grad());
    result.dr = to_vec(r.grad());
    for (const auto& q : store.parameters()) result.parameters.push_back(to_vec(q.grad));
    return result;
  }
};

TEST_F(Recompute, IsBitEqualToKeepingEverything) {
  const Result direct = run(Mode::direct), again = run(Mode::recompute), nested = run(Mode::nested);
  EXPECT_EQ(direct.y, again.y);
  EXPECT_EQ(direct.dx, again.dx);
  EXPECT_EQ(direct.dr, again.dr);
  EXPECT_EQ(direct.parameters, again.parameters);
  EXPECT_EQ(direct.parameters, nested.parameters);
  EXPECT_EQ(direct.dx, nested.dx);
}

TEST_F(Recompute, ReportsEveryParameterOnceWhenItsLastUseHasRun) {
  for (const Mode mode : {Mode::direct, Mode::recompute, Mode::nested}) {
    auto ready = run(mode).ready;
    EXPECT_EQ(ready.size(), 4U);
    if (mode == Mode::direct) {
      EXPECT_EQ(ready.back(), "norm");
    }
    std::sort(ready.begin(), ready.end());
    EXPECT_EQ(ready, (std::vector<std::string>{"down", "norm", "side", "up"}));
  }
}

TEST_F(TapeTest, RecomputeHoldsOnlyInputsAndOutputs) {
  const auto held = [&](bool again) {
    const int64_t before = host_allocator().stats().current_bytes;
    Tape tape;
    const Var x = tape.input(Tensor::zeros({100, 10}), true);
    const Tape::Segment segment = [&](Tape& t, const std::vector<Var>& in) {
      Var y = in[0];
      for (int i = 0; i < 8; ++i) y = gelu(t, y);
      return std::vector<Var>{y};
    };
    const auto out = again ? tape.recompute({x}, segment) : segment(tape, {x});
    return host_allocator().stats().current_bytes - before;
  };
  EXPECT_EQ(held(/*again=*/false), 9 * 4000);
  EXPECT_EQ(held(/*again=*/true), 2 * 4000);
}

TEST_F(TapeTest, RecomputeRefusesASegmentThatReturnsItsInputOrAValueTwice) {
  Tape tape;
  const Var x = tape.input(Tensor::zeros({1, 1}), true);
  EXPECT_THROW(tape.recompute({x}, [](Tape&, const std::vector<Var>& in) { return in; }), Error);
  const Tape::Segment twice = [](Tape& t, const std::vector<Var>& in) {
    const Var y = gelu(t, in[0]);
    return std::vector<Var>{y, y};
  };
  EXPECT_THROW(tape.recompute({x}, twice), Error);
}

TEST_F(TapeTest, BackwardFreesWhatItNoLongerNeeds) {
  const int64_t before = host_allocator().stats().current_bytes;
  Tape tape;
  const Var x = tape.input(Tensor::zeros({100, 10}), true);
  Var y = x;
  for (int i = 0; i < 8; ++i) y = gelu(tape, y);
  const Var root = weighted_sum(tape, {y}, {Vec(1000, 1.0)});
  y = Var();
  host_allocator().reset_peak();
  tape.backward(root);
  // x, its gradient, the root and its gradient buffer are left; in between two gradients lived at a time.
  EXPECT_LE(host_allocator().stats().current_bytes - before, 2 * 4000 + 8);
  EXPECT_LE(host_allocator().stats().peak_bytes - before, (9 + 2) * 4000 + 8);
}

// Inputs of recomputed segments wait elsewhere, and are there again when backward needs them.
TEST(TapeOffload, ParksInputsOfRecomputedSegments) {
  const auto offload = make_offload();
  const auto square = [](Tape& tape, const std::vector<Var>& in) {
    const Tensor y = in[0].value().clone();
    for (float& v : y.span<float>()) v *= v;
    const Var out = tape.variable(y, {in[0]});
    tape.record(out, {}, [x = in[0], kept = in[0].value(), out] {
      const Gradient dx = x.begin_gradient();
      for (int64_t i = 0; i < kept.numel(); ++i) {
        dx.tensor.data<float>()[i] = 2.0F * kept.data<float>()[i] * out.grad().data<float>()[i];
      }
    });
    return std::vector<Var>{out};
  };
  Tape tape;
  tape.set_offload(offload.get());
  const Tensor three = Tensor::empty({1});
  three.data<float>()[0] = 3.0F;
  const Var x = tape.input(three, /*requires_grad=*/true);
  const Var y = tape.recompute({x}, square).front();
  const Var z = tape.recompute({y}, square).front();
  EXPECT_EQ(*z.value().data<float>(), 81.0F);
  EXPECT_FALSE(x.value().defined()) << "parked";
  EXPECT_EQ(offload->stats().parked_bytes, 8);
  tape.backward(z);
  EXPECT_EQ(*x.grad().data<float>(), 4.0F * 27.0F);
  EXPECT_EQ(offload->stats().parked_bytes, 0);
  EXPECT_EQ(offload->stats().peak_bytes, 8);
  EXPECT_EQ(offload->stats().fetches, 2);
  const ParkedTensor once = offload->park(three);
  offload->fetch(once);
  EXPECT_THROW(offload->fetch(once), Error);
}

}  // namespace
}  // namespace farsight
