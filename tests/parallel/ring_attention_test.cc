// SPDX-License-Identifier: Apache-2.0
// T4: attention over in-process ranks equals dense attention in fp64.
#include "parallel/ring_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/allocator.h"
#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/parallel/ring_case.h"
#include "tests/sanitized.h"

namespace farsight {
namespace {

using testing::RingCase;
using testing::RingErrors;
using testing::RingFeature;
using testing::RingNumbers;

constexpr double kForward = 2e-6;
constexpr double kBackward = 5e-6;

RingNumbers solve(const RingCase& c, const SequenceLayout& layout) {
  RingNumbers numbers = testing::empty_numbers(c);
  run_in_process(static_cast<int>(layout.owners()),
                 [&](Communicator& ring) { testing::run_ring(ring, c, layout, numbers); });
  return numbers;
}

class RingEqualsDense : public ::testing::TestWithParam<std::tuple<RingFeature, int>> {};

TEST_P(RingEqualsDense, InEveryOrderAndRingSize) {
  const auto [feature, kv_heads] = GetParam();
  RingErrors worst;
  for (const int64_t tokens : {int64_t{96}, int64_t{97}}) {
    const int64_t smallest_ring = tokens == 96 ? 4 : 1;  // what divides evenly is the easier case
    const RingCase c = testing::make_ring_case(feature, tokens, 8, kv_heads, 11);
    const RingNumbers dense = testing::dense_numbers(c);
    for (const auto order : {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
      for (int64_t ring = smallest_ring; ring <= 4; ++ring) {
        const RingErrors e = testing::compare(dense, solve(c, SequenceLayout(order, tokens, ring)));
        EXPECT_LE(e.forward, kForward) << to_string(order) << " ring " << ring << " tokens " << tokens;
        EXPECT_LE(e.backward, kBackward) << to_string(order) << " ring " << ring << " tokens " << tokens;
        worst.forward = std::max(worst.forward, e.forward);
        worst.backward = std::max(worst.backward, e.backward);
      }
    }
  }
  RecordProperty("forward", std::to_string(worst.forward * 1e6) + "e-6");
  RecordProperty("backward", std::to_string(worst.backward * 1e6) + "e-6");
  std::printf("%-9s heads 8/%d: largest relative error forward %.1e, backward %.1e\n", testing::name_of(feature),
              kv_heads, worst.forward, worst.backward);
}

INSTANTIATE_TEST_SUITE_P(Features, RingEqualsDense,
                         ::testing::Combine(::testing::Values(RingFeature::full, RingFeature::causal,
                                                              RingFeature::window, RingFeature::documents,
                                                              RingFeature::alibi, RingFeature::dropout,
                                                              RingFeature::entropy, RingFeature::additive),
                                            ::testing::ValuesIn(kSanitized ? std::vector{2} : std::vector{8, 4, 2})),
                         [](const auto& info) {
                           return std::string(testing::name_of(std::get<0>(info.param))) + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(RingAttention, SequencesShorterThanTheRingLeaveRanksWithoutTokens) {
  for (const int64_t tokens : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}}) {
    for (const auto feature : {RingFeature::causal, RingFeature::window, RingFeature::dropout, RingFeature::additive}) {
      const RingCase c = testing::make_ring_case(feature, tokens, 4, 2, 5);
      const RingNumbers dense = testing::dense_numbers(c);
      for (const auto order : {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
        const RingErrors e = testing::compare(dense, solve(c, SequenceLayout(order, tokens, 4)));
        EXPECT_LE(e.forward, kForward) << tokens << " " << to_string(order);
        EXPECT_LE(e.backward, kBackward) << tokens << " " << to_string(order);
      }
    }
  }
}

TEST(RingAttention, StripesOfSeveralPositions) {
  const RingCase c = testing::make_ring_case(RingFeature::documents, 61, 4, 2, 9);
  const RingNumbers dense = testing::dense_numbers(c);
  for (const int64_t stripe : {2, 7, 16, 100}) {
    const RingErrors e = testing::compare(dense, solve(c, SequenceLayout(SequenceOrder::striped, 61, 3, stripe)));
    EXPECT_LE(e.forward, kForward) << stripe;
    EXPECT_LE(e.backward, kBackward) << stripe;
  }
}

// Every hop but the first brings keys that no query sees.
TEST(RingAttention, HopsWithoutVisibleKeysContributeNothing) {
  RingCase c = testing::make_ring_case(RingFeature::window, 40, 4, 4, 3);
  c.dense.spec.causal = false;
  c.dense.spec.window_left = 0;
  c.dense.spec.window_right = 0;  // each query sees its own position only
  const RingNumbers dense = testing::dense_numbers(c);
  for (const auto order : {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    const RingErrors e = testing::compare(dense, solve(c, SequenceLayout(order, 40, 4)));
    EXPECT_LE(e.forward, kForward) << to_string(order);
    EXPECT_LE(e.backward, kBackward) << to_string(order);
  }
}

// T5: the keep bits depend on positions alone, so an output without any rounding difference shows them. With v = 1 and
// equal scores an output is (number of kept keys) / (number of seen keys) / (1 - p): equal bits in all layouts mean
// equal masks.
TEST(RingAttention, DropoutBitsAreEqualInAllLayouts) {
  RingCase c = testing::make_ring_case(RingFeature::dropout, 64, 4, 2, 21);
  std::fill(c.dense.q.begin(), c.dense.q.end(), 0.0);
  // One-hot values: channel j % 6 sees only keys of its residue class.
  for (size_t i = 0; i < c.dense.v.size(); ++i) {
    const auto position = static_cast<int64_t>(i) / (2 * 6) % 64;
    c.dense.v[i] = static_cast<int64_t>(i) % 6 == position % 6 ? 1.0 : 0.0;
  }
  const RingNumbers dense = testing::dense_numbers(c);
  for (const auto order : {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    for (int64_t ring = 1; ring <= 4; ++ring) {
      const RingNumbers n = solve(c, SequenceLayout(order, 64, ring));
      for (size_t i = 0; i < n.out.size(); ++i) {
        // One kept key more or less changes the output by at least 1/64.
        ASSERT_NEAR(n.out[i], dense.out[i], 1e-3) << to_string(order) << " ring " << ring << " element " << i;
      }
    }
  }
}

double to_bf16(double value) {  // nearest, ties to even
  auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  bits = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
  return static_cast<double>(std::bit_cast<float>(bits));
}

void to_bf16(std::vector<double>& values) {
  for (double& value : values) value = to_bf16(value);
}

// sqrt(mean square error / mean square) of what remains after one rounding to bf16.
double rms_error_in_bf16(const std::vector<double>& exact, const std::vector<double>& found) {
  double error = 0.0, square = 0.0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double difference = to_bf16(found[i]) - exact[i];
    error += difference * difference;
    square += exact[i] * exact[i];
  }
  return std::sqrt(error / square);
}

// T7: inputs and results in bf16, everything between in fp32 on its way around the ring. Gradients that travelled in
// bf16 would be off by 2.4e-3 on 2 ranks and 6.1e-3 on 16.
TEST(RingAttention, ErrorOfBf16GradientsDoesNotGrowWithTheRing) {
  RingCase c = testing::make_ring_case(RingFeature::causal, kSanitized ? 128 : 512, 2, 2, 31);
  for (auto* values : {&c.dense.q, &c.dense.k, &c.dense.v, &c.dout}) to_bf16(*values);
  const RingNumbers dense = testing::dense_numbers(c);
  const auto errors = [&](int64_t ring) {
    const RingNumbers n = solve(c, SequenceLayout(SequenceOrder::zigzag, c.dense.queries, ring));
    return std::pair(rms_error_in_bf16(dense.dk, n.dk), rms_error_in_bf16(dense.dv, n.dv));
  };
  const auto [dk, dv] = errors(1);
  EXPECT_NEAR(dk, 1.7e-3, 0.2e-3);
  for (const int64_t ring : {2, 4, 8, 16}) {
    const auto [ring_dk, ring_dv] = errors(ring);
    EXPECT_LE(ring_dk, 1.05 * dk) << "ring " << ring;
    EXPECT_LE(ring_dv, 1.05 * dv) << "ring " << ring;
    std::printf("ring %2d: rms error of bf16 dK %.3e, dV %.3e\n", static_cast<int>(ring), ring_dk, ring_dv);
  }
}

TEST(RingAttention, RepeatsBitForBit) {
  const RingCase c = testing::make_ring_case(RingFeature::alibi, 97, 8, 2, 2);
  const SequenceLayout layout(SequenceOrder::zigzag, 97, 3);
  const RingNumbers a = solve(c, layout);
  const RingNumbers b = solve(c, layout);
  EXPECT_EQ(a.out, b.out);
  EXPECT_EQ(a.dq, b.dq);
  EXPECT_EQ(a.dk, b.dk);
  EXPECT_EQ(a.dv, b.dv);
}

// Largest request for communication does not grow with the ring: O(T / c).
TEST(RingAttention, BuffersShrinkWithTheRing) {
  const RingCase c = testing::make_ring_case(RingFeature::causal, 256, 4, 4, 2);
  const auto largest = [&c](int64_t ring) {
    host_allocator().reset_peak();
    solve(c, SequenceLayout(SequenceOrder::zigzag, 256, ring));
    return host_allocator().stats().largest_by_tag[MemoryTag::communication];
  };
  const int64_t two = largest(2);
  EXPECT_EQ(two, int64_t{2} * 128 * 4 * (8 + 6) * 4);  // B x T/2 x Hkv x (D + Dv) x 4 bytes
  EXPECT_EQ(largest(4), two / 2);
}

TEST(RingHops, FollowAFormulaEqualOnAllRanks) {
  AttentionSpec spec;
  const SequenceLayout contiguous(SequenceOrder::contiguous, 100, 5);
  EXPECT_EQ(ring_hops(spec, contiguous), 4);
  spec.window_left = 0;
  EXPECT_EQ(ring_hops(spec, contiguous), 0);
  spec.window_left = 1;
  EXPECT_EQ(ring_hops(spec, contiguous), 1);
  spec.window_left = 20;
  EXPECT_EQ(ring_hops(spec, contiguous), 1);
  spec.window_left = 21;
  EXPECT_EQ(ring_hops(spec, contiguous), 2);
  spec.window_left = 1000;
  EXPECT_EQ(ring_hops(spec, contiguous), 4);
  spec.window_left = 1;
  EXPECT_EQ(ring_hops(spec, SequenceLayout(SequenceOrder::striped, 100, 5)), 4);
  spec.causal = false;
  EXPECT_EQ(ring_hops(spec, contiguous), 4);
}

TEST(RingAttention, RefusesShapesThatContradictTheLayout) {
  auto self = make_self_communicator();
  const RingCase c = testing::make_ring_case(RingFeature::causal, 8, 4, 2, 1);
  Tape tape;
  const Var q = tape.input(Tensor::zeros({2 * 8, 4 * 8}));
  const Var k = tape.input(Tensor::zeros({2 * 7, 2 * 8}));
  RingOptions options;
  options.heads = 4;
  options.kv_heads = 2;
  EXPECT_THROW(ring_attention(tape, *self, c.dense.spec, q, k, k, c.batch, options), Error);
}

}  // namespace
}  // namespace farsight
