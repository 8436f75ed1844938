// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class CrossEntropy : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, CrossEntropy, ::testing::ValuesIn(targets()), target_name);

struct Problem {
  size_t rows, width, vocabulary;
  Vec x, w;
  std::vector<int32_t> labels;
  double smoothing = 0.0;
};

Problem make_problem(size_t rows, size_t width, size_t vocabulary, double smoothing, double scale = 1.0) {
  Problem p{rows, width, vocabulary, {}, {}, {}, smoothing};
  p.x = random_vec(1, static_cast<int64_t>(rows * width), scale);
  p.w = random_vec(2, static_cast<int64_t>(vocabulary * width), 0.5);
  for (size_t r = 0; r < rows; ++r) p.labels.push_back(r % 3 == 1 ? -1 : static_cast<int32_t>(r * 31 % vocabulary));
  return p;
}

struct Oracle {
  double loss = 0.0, nll = 0.0;
  Vec dx, dw;  // of the unscaled loss, analytic: softmax - target distribution
};

// By the definitions -sum_v t_v log softmax_v with t = (1 - e) onehot + e / V.
Oracle solve(const Problem& p, bool gradients = true) {
  Oracle o;
  o.dx.assign(p.x.size(), 0.0);
  o.dw.assign(p.w.size(), 0.0);
  Vec z(p.vocabulary);
  for (size_t r = 0; r < p.rows; ++r) {
    if (p.labels[r] < 0) continue;
    double largest = -1e300, sum = 0.0;
    for (size_t v = 0; v < p.vocabulary; ++v) {
      z[v] = 0.0;
      for (size_t c = 0; c < p.width; ++c) z[v] += p.x[r * p.width + c] * p.w[v * p.width + c];
      largest = std::max(largest, z[v]);
    }
    for (const double value : z) sum += std::exp(value - largest);
    const double lse = largest + std::log(sum);
    for (size_t v = 0; v < p.vocabulary; ++v) {
      const double hot = static_cast<int32_t>(v) == p.labels[r] ? 1.0 : 0.0;
      const double target = (1.0 - p.smoothing) * hot + p.smoothing / static_cast<double>(p.vocabulary);
      o.loss += target * (lse - z[v]);
      o.nll += hot * (lse - z[v]);
      const double d = std::exp(z[v] - lse) - target;
      for (size_t c = 0; gradients && c < p.width; ++c) {
        o.dx[r * p.width + c] += d * p.w[v * p.width + c];
        o.dw[v * p.width + c] += d * p.x[r * p.width + c];
      }
    }
  }
  return o;
}

struct Result {
  double loss, loss_sum, nll_sum;
  int64_t valid;
  Vec dx, dw;
};

Shape shape_of(size_t rows, size_t cols) { return {static_cast<int64_t>(rows), static_cast<int64_t>(cols)}; }

Result run(const Problem& p, int64_t chunk_rows, double scale, int64_t margin = 0) {
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", shape_of(p.vocabulary, p.width));
  allocate(store);
  assign(w.value, p.w);
  Tape tape;
  const Var x = tape.input(to_tensor(p.x, shape_of(p.rows, p.width), margin), true);
  CrossEntropyOptions options;
  options.scale = scale;
  options.label_smoothing = static_cast<float>(p.smoothing);
  options.chunk_rows = chunk_rows;
  const CrossEntropyResult r = linear_cross_entropy(tape, x, w, p.labels, options);
  tape.backward(r.loss);
  return {to_vec(r.loss.value()).front(), r.loss_sum(), r.nll_sum(), r.valid, to_vec(x.grad()), to_vec(w.grad)};
}

Vec scaled(Vec v, double factor) {
  for (auto& x : v) x *= factor;
  return v;
}

TEST_P(CrossEntropy, EqualsOracleForAnyChunkSize) {
  for (const double smoothing : {0.0, 0.125}) {
    const Problem p = make_problem(20, 9, 67, smoothing);
    const Oracle o = solve(p);
    for (const int64_t chunk : {1, 7, 20, 0}) {
      const Result r = run(p, chunk, 1.0 / 13.0, /*margin=*/1);
      EXPECT_NEAR(r.loss_sum, o.loss, relative(1e-6) * o.loss);
      EXPECT_NEAR(r.nll_sum, o.nll, relative(1e-6) * o.nll);
      EXPECT_NEAR(r.loss, o.loss / 13.0, relative(1e-6) * o.loss / 13.0);
      EXPECT_EQ(r.valid, 13);
      expect_close(r.dx, scaled(o.dx, 1.0 / 13.0), 1e-5, "dx");
      expect_close(r.dw, scaled(o.dw, 1.0 / 13.0), 1e-5, "dw");
    }
  }
}

TEST(CrossEntropyOracle, AnalyticGradientIsTheFiniteDifference) {
  Problem p = make_problem(5, 3, 7, 0.125);
  const Oracle o = solve(p);
  const auto at_x = [&](const Vec& v) {
    Problem q = p;
    q.x = v;
    return solve(q, false).loss;
  };
  const auto at_w = [&](const Vec& v) {
    Problem q = p;
    q.w = v;
    return solve(q, false).loss;
  };
  expect_close(o.dx, numeric_gradient(at_x, p.x), 1e-8, "dx");
  expect_close(o.dw, numeric_gradient(at_w, p.w), 1e-8, "dw");
}

// Logits up to several hundred: a softmax in fp32 underflows to log(0) here.
TEST_P(CrossEntropy, LogitsTimesNinetyStayExact) {
  for (const double smoothing : {0.0, 0.125}) {
    const Problem p = make_problem(12, 8, 67, smoothing, 90.0);
    const Oracle o = solve(p);
    ASSERT_GT(o.loss, 100.0);
    const Result r = run(p, 5, 1.0);
    EXPECT_NEAR(r.loss_sum, o.loss, relative(1e-6) * o.loss);
    expect_close(r.dx, o.dx, 1e-5, "dx");
    expect_close(r.dw, o.dw, 1e-5, "dw");
  }
}

TEST(CrossEntropyLarge, VocabularyOfAQuarterMillion) {
  for (const double smoothing : {0.0, 0.125}) {
    const Problem p = make_problem(5, 4, 250007, smoothing, 2.0);
    const Oracle o = solve(p);
    for (const int64_t chunk : {1, 7}) {
      const Result r = run(p, chunk, 1.0);
      EXPECT_NEAR(r.loss_sum, o.loss, relative(1e-6) * o.loss);
      expect_close(r.dx, o.dx, 1e-5, "dx");
      expect_close(r.dw, o.dw, 1e-5, "dw");
    }
  }
}

TEST_P(CrossEntropy, MaskedRowsContributeExactlyZeroWhateverTheyHold) {
  Problem p = make_problem(4, 5, 11, 0.125);
  const Result before = run(p, 2, 1.0);
  for (size_t c = 0; c < 5; ++c) p.x[5 + c] = 1e6;  // row 1 is masked
  const Result after = run(p, 2, 1.0);
  EXPECT_EQ(before.loss_sum, after.loss_sum);
  EXPECT_EQ(before.dw, after.dw);
  for (size_t c = 0; c < 5; ++c) EXPECT_EQ(after.dx[5 + c], 0.0);
  std::fill(p.labels.begin(), p.labels.end(), -1);
  const Result none = run(p, 2, 1.0);
  EXPECT_EQ(none.loss_sum, 0.0);
  EXPECT_EQ(none.valid, 0);
  EXPECT_EQ(none.dx, Vec(20, 0.0));
  EXPECT_EQ(none.dw, Vec(55, 0.0));
}

TEST(CrossEntropyTape, NeverHoldsMoreThanAChunkOfLogits) {
  const Problem p = make_problem(64, 8, 500, 0.0);
  host_allocator().reset_peak();
  run(p, 16, 1.0);
  EXPECT_EQ(host_allocator().stats().largest_by_tag[MemoryTag::logits], 16 * 500 * 4);
}

TEST(CrossEntropyTape, AccumulatesIntoUsedInputsAndReportsTheWeightInBackward) {
  const Problem p = make_problem(6, 4, 9, 0.0);
  const Oracle o = solve(p);
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {9, 4});
  allocate(store);
  assign(w.value, p.w);
  Vec expected_dw = scaled(o.dw, 2.0), expected_dx = o.dx;
  const Vec extra = random_vec(9, 24);
  for (size_t i = 0; i < 24; ++i) expected_dx[i] += extra[i];
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    Tape tape;
    std::vector<std::string> ready;
    tape.on_gradient_ready([&](Parameter& q) { ready.push_back(q.name); });
    const Var x = tape.input(to_tensor(p.x, {6, 4}), true);
    const CrossEntropyResult r = linear_cross_entropy(tape, x, w, p.labels, {});
    EXPECT_TRUE(ready.empty());
    const Var other = weighted_sum(tape, {x}, {extra});
    // Root = loss + other, both with gradient 1.
    tape.backward(weighted_sum(tape, {r.loss, other}, {{1.0}, {1.0}}));
    EXPECT_EQ(ready, std::vector<std::string>{"w"});
    expect_close(to_vec(x.grad()), expected_dx, 1e-5, "dx");
  }
  expect_close(to_vec(w.grad), expected_dw, 1e-5, "dw");
}

TEST(CrossEntropyTape, RefusesASeedOtherThanOneAndWrongLabels) {
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {3, 2});
  allocate(store);
  Tape tape;
  const Var x = tape.input(Tensor::zeros({2, 2}), true);
  const CrossEntropyResult r = linear_cross_entropy(tape, x, w, std::vector<int32_t>{0, 1}, {});
  EXPECT_THROW(tape.backward(r.loss, 0.5F), Error);
  for (const int32_t bad : {-2, 3}) {
    try {
      linear_cross_entropy(tape, x, w, std::vector<int32_t>{0, bad}, {});
      ADD_FAILURE() << "accepted " << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::data);
      EXPECT_NE(std::string(e.what()).find("row 1"), std::string::npos) << e.what();
    }
  }
}

TEST(CrossEntropyTape, WithoutRecordingNothingIsAccumulatedAndRowLossesAgree) {
  const Problem p = make_problem(10, 4, 9, 0.0);
  const Oracle o = solve(p);
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {9, 4});
  allocate(store);
  assign(w.value, p.w);
  Tape tape(/*recording=*/false);
  const Var x = tape.input(to_tensor(p.x, {10, 4}));
  EXPECT_NEAR(linear_cross_entropy(tape, x, w, p.labels, {}).loss_sum(), o.loss, relative(1e-6) * o.loss);
  EXPECT_FALSE(w.grad_written);
  Vec rows(10, -7.0);
  const CrossEntropyResult r = evaluate_cross_entropy(x.value(), w, p.labels, rows, 3);
  double sum = 0.0;
  for (const double v : rows) sum += v;
  EXPECT_NEAR(r.nll_sum(), o.nll, relative(1e-6) * o.nll);
  EXPECT_DOUBLE_EQ(sum, r.nll_sum());
  EXPECT_EQ(rows[1], 0.0);
  const Tensor z = logits(x.value(), w);
  EXPECT_NEAR(to_vec(z)[9 + 2], dot(Vec(p.x.begin() + 4, p.x.begin() + 8), Vec(p.w.begin() + 8, p.w.begin() + 12)),
              1e-5);
}

TEST(CrossEntropyTape, RecomputedSegmentGivesTheSameGradientsOnce) {
  const Problem p = make_problem(6, 4, 9, 0.0);
  const Result direct = run(p, 4, 0.5);
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {9, 4});
  allocate(store);
  assign(w.value, p.w);
  Tape tape;
  const Var x = tape.input(to_tensor(p.x, {6, 4}), true);
  const auto loss = tape.recompute({x}, [&](Tape& t, const std::vector<Var>& in) {
    return std::vector<Var>{linear_cross_entropy(t, in[0], w, p.labels, {0.5, 0.0F, 4, nullptr}).loss};
  });
  tape.backward(loss[0]);
  EXPECT_EQ(to_vec(x.grad()), direct.dx);
  EXPECT_EQ(to_vec(w.grad), direct.dw);
}

// Ranks as threads that meet in each reduction.
class Meeting {
 public:
  explicit Meeting(int ranks) : ranks_(ranks) {}
  template <class T, class Combine>
  void all_reduce(std::vector<T>& shared, std::span<T> mine, const Combine& combine) {
    std::unique_lock lock(mutex_);
    if (arrived_ == 0) {
      shared.assign(mine.begin(), mine.end());
    } else {
      for (size_t i = 0; i < mine.size(); ++i) shared[i] = combine(shared[i], mine[i]);
    }
    wait(lock);
    std::copy(shared.begin(), shared.end(), mine.begin());
    wait(lock);
  }

 private:
  void wait(std::unique_lock<std::mutex>& lock) {
    const int round = round_;
    if (++arrived_ == ranks_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return round_ != round; });
    }
  }
  int ranks_, arrived_ = 0, round_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};

TEST(CrossEntropyShards, UnevenVocabularySlicesEqualTheWhole) {
  for (const double smoothing : {0.0, 0.125}) {
    const Problem p = make_problem(8, 5, 10, smoothing);
    const Oracle o = solve(p);
    for (const int64_t ranks : {2, 3}) {
      const int64_t slice = (10 + ranks - 1) / ranks;  // the last slice is padded
      Meeting meeting(static_cast<int>(ranks));
      std::vector<float> largest;
      std::vector<double> sums;
      std::vector<Result> results(static_cast<size_t>(ranks));
      const auto rank_main = [&](int64_t rank) {
        set_thread_count(1);
        ParameterStore store;
        Parameter& w = add_parameter(store, "w", {slice, 5});
        allocate(store);
        Vec wv(static_cast<size_t>(slice * 5), 50.0);  // padding rows hold nonsense
        for (int64_t i = 0; i < slice * 5 && rank * slice * 5 + i < 50; ++i) {
          wv[static_cast<size_t>(i)] = p.w[static_cast<size_t>(rank * slice * 5 + i)];
        }
        assign(w.value, wv);
        VocabularyShard shard;
        shard.first = rank * slice;
        shard.vocabulary = 10;
        shard.all_reduce_max = [&](const Tensor& v) {
          meeting.all_reduce(largest, v.span<float>(), [](float a, float b) { return std::max(a, b); });
        };
        shard.all_reduce_sum = [&](const Tensor& v) {
          meeting.all_reduce(sums, v.span<double>(), [](double a, double b) { return a + b; });
        };
        Tape tape;
        const Var x = tape.input(to_tensor(p.x, {8, 5}), true);
        const auto r = linear_cross_entropy(tape, x, w, p.labels, {1.0, static_cast<float>(smoothing), 3, &shard});
        tape.backward(r.loss);
        results[static_cast<size_t>(rank)] = {0.0,     r.loss_sum(),     r.nll_sum(),
                                              r.valid, to_vec(x.grad()), to_vec(w.grad)};
      };
      std::vector<std::thread> threads;
      for (int64_t rank = 0; rank < ranks; ++rank) threads.emplace_back(rank_main, rank);
      for (auto& t : threads) t.join();
      Vec dx(40, 0.0), dw;
      for (const auto& r : results) {
        EXPECT_NEAR(r.loss_sum, o.loss, relative(1e-6) * o.loss);
        for (size_t i = 0; i < dx.size(); ++i) dx[i] += r.dx[i];
        dw.insert(dw.end(), r.dw.begin(), r.dw.end());
      }
      expect_close(dx, o.dx, 1e-5, "dx");
      for (size_t i = 50; i < dw.size(); ++i) EXPECT_EQ(dw[i], 0.0) << "padding";
      dw.resize(50);
      expect_close(dw, o.dw, 1e-5, "dw");
    }
  }
}

}  // namespace
}  // namespace farsight
