// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding.h"

#include "kernels/error.h"
#include "kernels/random.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Embedding : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Embedding, ::testing::ValuesIn(targets()), target_name);

struct Batch {
  std::vector<int32_t> tokens = {4, 0, 4, 4, 2, 0}, positions = {0, 1, 2, 0, 1, 2};
  std::vector<uint64_t> keys = {5, 6};
  DropoutSite site(double p) const { return {p, keys, ids(positions), 3, 0}; }
  double factor(size_t row, size_t c, double p) const {
    if (p == 0.0) return 1.0;
    const auto words =
        philox(keys[row / 3], {static_cast<uint32_t>(positions[row]), static_cast<uint32_t>(c / 4), 0, 0});
    return words[c % 4] >= dropout_threshold(p) ? 1.0 / (1.0 - p) : 0.0;
  }
};

TEST_P(Embedding, ValuesAndGradientsAreSumsOverUses) {
  const Batch batch;
  for (const size_t cols : {size_t{1}, size_t{5}, size_t{37}}) {
    for (const double p : {0.0, 0.4}) {
      const auto c64 = static_cast<int64_t>(cols);
      ParameterStore store;
      Parameter& table = add_parameter(store, "table", {5, c64});
      Parameter& places = add_parameter(store, "places", {3, c64});
      allocate(store);
      const Vec tv = random_vec(1, 5 * c64), pv = random_vec(2, 3 * c64), dy = random_vec(3, 6 * c64);
      assign(table.value, tv);
      assign(places.value, pv);
      Vec y, dt(tv.size(), 0.0), dp(pv.size(), 0.0);
      for (size_t r = 0; r < 6; ++r) {
        for (size_t c = 0; c < cols; ++c) {
          const size_t t = static_cast<size_t>(batch.tokens[r]) * cols + c;
          const size_t at = static_cast<size_t>(batch.positions[r]) * cols + c;
          const double f = batch.factor(r, c, p);
          y.push_back((tv[t] + pv[at]) * f);
          dt[t] += dy[r * cols + c] * f;
          dp[at] += dy[r * cols + c] * f;
        }
      }
      Tape tape;
      const DropoutSite site = batch.site(p);
      const Var out = embedding(tape, batch.tokens, table, &places, batch.positions, &site);
      expect_close(to_vec(out.value()), y, 1e-6, "y");
      tape.backward(weighted_sum(tape, {out}, {dy}));
      expect_close(to_vec(table.grad), dt, 1e-6, "table");
      expect_close(to_vec(places.grad), dp, 1e-6, "positions");
    }
  }
}

TEST_P(Embedding, GradientAddsToWhatIsThereAndClearsWhatIsStale) {
  ParameterStore store;
  Parameter& table = add_parameter(store, "table", {5, 2});
  allocate(store);
  fill(table.grad, 77.0F);
  store.begin_gradients();
  const std::vector<int32_t> tokens = {1};
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    Tape tape;
    tape.backward(weighted_sum(tape, {embedding(tape, tokens, table)}, {{1.0, 2.0}}));
  }
  EXPECT_EQ(to_vec(table.grad), (Vec{0, 0, 2, 4, 0, 0, 0, 0, 0, 0}));
}

TEST_P(Embedding, BitsDoNotDependOnTheThreadCount) {
  std::vector<int32_t> tokens(400);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 5);
  const Vec dy = random_vec(1, 400 * 70);
  const auto run = [&] {
    ParameterStore store;
    Parameter& table = add_parameter(store, "table", {5, 70});
    allocate(store);
    Tape tape;
    tape.backward(weighted_sum(tape, {embedding(tape, tokens, table)}, {dy}));
    return to_vec(table.grad);
  };
  EXPECT_EQ(with_threads(1, run), with_threads(3, run));
}

TEST(EmbeddingErrors, IdsOutOfRangeNameTheRow) {
  ParameterStore store;
  Parameter& table = add_parameter(store, "tok", {5, 2});
  Parameter& places = add_parameter(store, "pos", {3, 2});
  allocate(store);
  Tape tape;
  for (const int32_t bad : {-1, 5}) {
    try {
      embedding(tape, std::vector<int32_t>{0, bad}, table);
      ADD_FAILURE() << "accepted " << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::data);
      EXPECT_NE(std::string(e.what()).find("row 1"), std::string::npos) << e.what();
    }
  }
  EXPECT_THROW(embedding(tape, std::vector<int32_t>{0}, table, &places, std::vector<int32_t>{3}), Error);
  EXPECT_THROW(embedding(tape, std::vector<int32_t>{0}, table, &places, {}), Error);
}

// A vocabulary cut into slices, positions and dropout added to the sum: the same as one table.
TEST_P(Embedding, SlicesOfTheVocabularySumToTheWhole) {
  const Batch batch;
  constexpr int64_t kCols = 37;
  ParameterStore whole;
  Parameter& table = whole.add("table", {5, kCols}, {Init::Kind::normal, 1.0});
  Parameter& places = whole.add("places", {3, kCols}, {Init::Kind::normal, 1.0});
  allocate(whole);
  whole.initialize(4);
  const Vec dy = random_vec(3, 6 * kCols);
  const DropoutSite site = batch.site(0.4);
  Tape tape;
  const Var reference = embedding(tape, batch.tokens, table, &places, batch.positions, &site);
  const Vec expected = to_vec(reference.value());
  tape.backward(weighted_sum(tape, {reference}, {dy}));

  ParameterStore parts;
  Parameter& low = parts.add("table", ParameterSlice{{5, kCols}, {0, 0}, {3, kCols}}, {Init::Kind::normal, 1.0});
  Parameter& positions = parts.add("places", {3, kCols}, {Init::Kind::normal, 1.0});
  allocate(parts);
  parts.initialize(4);
  ParameterStore rest;
  Parameter& high = rest.add("table", ParameterSlice{{5, kCols}, {3, 0}, {2, kCols}}, {Init::Kind::normal, 1.0});
  allocate(rest);
  rest.initialize(4);
  Tape split;
  const Var a = partial_embedding(split, batch.tokens, low);
  const Var b = partial_embedding(split, batch.tokens, high);
  Vec sum = to_vec(a.value());
  const Vec more = to_vec(b.value());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
  const Var x = split.input(to_tensor(sum, {6, kCols}), /*requires_grad=*/true);
  const Var y = add_positions(split, x, &positions, batch.positions, &site);
  EXPECT_EQ(to_vec(y.value()), expected);
  split.backward(weighted_sum(split, {y}, {dy}));
  EXPECT_EQ(to_vec(positions.grad), to_vec(places.grad));
  // What reaches x reaches every slice.
  Tape tables;
  const Var c = partial_embedding(tables, batch.tokens, low);
  const Var d = partial_embedding(tables, batch.tokens, high);
  Vec dx;
  for (size_t r = 0; r < 6; ++r) {
    for (size_t k = 0; k < kCols; ++k) dx.push_back(dy[r * kCols + k] * batch.factor(r, k, 0.4));
  }
  tables.backward(weighted_sum(tables, {c, d}, {dx, dx}));
  Vec gathered = to_vec(low.grad);
  const Vec upper = to_vec(high.grad);
  gathered.insert(gathered.end(), upper.begin(), upper.end());
  expect_close(gathered, to_vec(table.grad), 1e-6, "table");
  EXPECT_THROW(partial_embedding(tables, std::vector<int32_t>{5}, low), Error);
}

// A range of the rows draws what these rows draw among all of them.
TEST_P(Embedding, RangesOfRowsDropTheSameElements) {
  const Batch batch;
  const Vec x = random_vec(8, 6 * 5);
  Tape tape;
  const DropoutSite all = batch.site(0.4);
  const Vec whole = to_vec(add_positions(tape, tape.input(to_tensor(x, {6, 5})), nullptr, {}, &all).value());
  for (const auto& [first, count] : {std::pair<size_t, size_t>{0, 2}, {2, 3}, {5, 1}, {3, 0}}) {
    DropoutSite part = all;
    part.first_row = static_cast<int64_t>(first);
    part.row_count = static_cast<int64_t>(count);
    const auto begin = static_cast<std::ptrdiff_t>(first * 5), end = static_cast<std::ptrdiff_t>((first + count) * 5);
    const Vec rows(x.begin() + begin, x.begin() + end);
    const Var in = tape.input(to_tensor(rows, {static_cast<int64_t>(count), 5}));
    EXPECT_EQ(to_vec(add_positions(tape, in, nullptr, {}, &part).value()),
              Vec(whole.begin() + begin, whole.begin() + end));
  }
}

}  // namespace
}  // namespace farsight
