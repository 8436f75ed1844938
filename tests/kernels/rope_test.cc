// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.h"

#include <complex>

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Rope : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Rope, ::testing::ValuesIn(targets()), target_name);

// Pairs as complex numbers times e^(i angle).
Vec oracle(const Vec& x, const std::vector<int32_t>& positions, size_t heads, size_t head_width, double theta) {
  Vec y(x);
  const size_t half = head_width / 2, width = heads * head_width;
  for (size_t r = 0; r < positions.size(); ++r) {
    for (size_t h = 0; h < heads; ++h) {
      for (size_t i = 0; i < half; ++i) {
        const size_t low = r * width + h * head_width + i;
        const double angle =
            positions[r] * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_width));
        const std::complex<double> z = std::complex<double>(x[low], x[low + half]) * std::polar(1.0, angle);
        y[low] = z.real();
        y[low + half] = z.imag();
      }
    }
  }
  return y;
}

TEST_P(Rope, TurnsColumnsOfOneProjectionInPlaceAndGradientsBack) {
  const std::vector<int32_t> positions = {0, 1, 2, 0, 1000000};
  const int64_t rows = 5;
  for (const int64_t d : {2, 6, 34}) {
    const int64_t hq = 3, hk = 1, width = (hq + 2 * hk) * d;
    const Vec xv = random_vec(1, rows * width);
    Tape tape;
    const Var qkv = tape.input(to_tensor(xv, {rows, width}), true);
    const auto parts = tape.split_last(qkv, {hq * d, hk * d, hk * d});
    const Vec qv = to_vec(parts[0].value()), kv = to_vec(parts[1].value()), vv = to_vec(parts[2].value());
    const RopeTable table = rope_table(ids(positions), 10000.0, d);
    const auto [q, k] = rope(tape, parts[0], parts[1], table);
    EXPECT_TRUE(q.value().shares_storage(qkv.value()));
    const auto turned = [&](const Vec& v, int64_t heads) {
      return oracle(v, positions, static_cast<size_t>(heads), static_cast<size_t>(d), 10000.0);
    };
    expect_close(to_vec(q.value()), turned(qv, hq), 1e-6, "q");
    expect_close(to_vec(k.value()), turned(kv, hk), 1e-6, "k");
    EXPECT_EQ(to_vec(parts[2].value()), vv);
    const Vec dq = random_vec(2, rows * hq * d), dk = random_vec(3, rows * hk * d), dv = random_vec(4, rows * hk * d);
    tape.backward(weighted_sum(tape, {q, k, parts[2]}, {dq, dk, dv}));
    const auto part = [&](int64_t begin, int64_t count) { return to_vec(qkv.grad().narrow_last(begin, count)); };
    const auto gradient = [&](const Vec& at, const Vec& w, int64_t heads) {
      return numeric_gradient([&](const Vec& v) { return dot(turned(v, heads), w); }, at);
    };
    expect_close(part(0, hq * d), gradient(qv, dq, hq), 1e-5, "dq");
    expect_close(part(hq * d, hk * d), gradient(kv, dk, hk), 1e-5, "dk");
    EXPECT_EQ(part((hq + hk) * d, hk * d), dv);
  }
}

TEST(RopeTable, ScoresDependOnDistancesOnly) {
  const int64_t d = 16;
  const Vec qv = random_vec(1, d), kv = random_vec(2, d);
  const auto score = [&](int32_t at_q, int32_t at_k) {
    Tape tape;
    const std::vector<int32_t> pq = {at_q}, pk = {at_k};
    const Var q = rope(tape, tape.input(to_tensor(qv, {1, d})), rope_table(ids(pq), 10000.0, d));
    const Var k = rope(tape, tape.input(to_tensor(kv, {1, d})), rope_table(ids(pk), 10000.0, d));
    return dot(to_vec(q.value()), to_vec(k.value()));
  };
  EXPECT_NEAR(score(10, 3), score(10007, 10000), 1e-5);
  EXPECT_GT(std::abs(score(10, 3) - score(10, 4)), 1e-3);
}

TEST(RopeTable, WrongSizesAreRefused) {
  const std::vector<int32_t> positions = {0, 1};
  EXPECT_THROW(rope_table(ids(positions), 10000.0, 3), Error);
  Tape tape;
  EXPECT_THROW(rope(tape, tape.input(Tensor::zeros({3, 4})), rope_table(ids(positions), 10000.0, 4)), Error);
  EXPECT_THROW(rope(tape, tape.input(Tensor::zeros({2, 6})), rope_table(ids(positions), 10000.0, 4)), Error);
}

}  // namespace
}  // namespace farsight
