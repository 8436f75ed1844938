// SPDX-License-Identifier: Apache-2.0
// T4: attention by every context-parallel scheme equals dense attention in fp64.
#include "parallel/context_attention.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/allocator.h"
#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/parallel/context_case.h"
#include "tests/sanitized.h"

namespace farsight {
namespace {

using testing::ContextLayout;
using testing::RingCase;
using testing::RingErrors;
using testing::RingFeature;
using testing::RingNumbers;

constexpr double kForward = 2e-6;
constexpr double kBackward = 5e-6;
constexpr SequenceOrder kOrders[] = {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped};

// All orders, or under a sanitizer one of them in turn.
std::vector<SequenceOrder> orders(int turn) {
  if (kSanitized) return {kOrders[turn % 3]};
  return {std::begin(kOrders), std::end(kOrders)};
}

// Every scheme on ring x uly ranks, all-gather with one head at a time and with all.
std::vector<ContextLayout> schemes(SequenceOrder order, int64_t ring, int64_t uly) {
  std::vector<ContextLayout> all;
  for (const auto scheme : {ContextScheme::ring, ContextScheme::ulysses, ContextScheme::two_d}) {
    all.push_back({order, ring, uly, scheme});
  }
  for (const int64_t stride : {0, 1}) all.push_back({order, ring, uly, ContextScheme::all_gather, stride});
  return all;
}

RingErrors expect_dense(const RingCase& c, const RingNumbers& dense, const ContextLayout& layout,
                        const CommOptions& options = {}) {
  const RingErrors e = testing::compare(dense, testing::solve_context(c, layout, options));
  EXPECT_LE(e.forward, kForward) << layout.name() << " tokens " << c.dense.queries;
  EXPECT_LE(e.backward, kBackward) << layout.name() << " tokens " << c.dense.queries;
  return e;
}

class ContextEqualsDense : public ::testing::TestWithParam<std::tuple<RingFeature, int>> {};

TEST_P(ContextEqualsDense, InEverySchemeOrderAndExtent) {
  const auto [feature, kv_heads] = GetParam();
  RingErrors worst;
  for (const int64_t tokens : {int64_t{96}, int64_t{97}}) {
    if (kSanitized && tokens == 96) continue;
    const RingCase c = testing::make_ring_case(feature, tokens, 8, kv_heads, 17);
    const RingNumbers dense = testing::dense_numbers(c);
    for (const auto order : orders(static_cast<int>(feature) + kv_heads / 2)) {
      for (const int64_t ring : {1, 2, 4}) {
        for (const int64_t uly : {1, 2, 4}) {
          // What divides evenly is the easier case: one extent.
          if (ring * uly > 8 || (tokens == 96 && ring * uly != 8) || (kSanitized && (ring != 2 || uly != 2))) continue;
          for (const ContextLayout& layout : schemes(order, ring, uly)) {
            const RingErrors e = expect_dense(c, dense, layout);
            worst.forward = std::max(worst.forward, e.forward);
            worst.backward = std::max(worst.backward, e.backward);
          }
        }
      }
    }
  }
  std::printf("%-9s heads 8/%d: largest relative error forward %.1e, backward %.1e\n", testing::name_of(feature),
              kv_heads, worst.forward, worst.backward);
}

INSTANTIATE_TEST_SUITE_P(Features, ContextEqualsDense,
                         ::testing::Combine(::testing::Values(RingFeature::full, RingFeature::causal,
                                                              RingFeature::window, RingFeature::documents,
                                                              RingFeature::alibi, RingFeature::dropout,
                                                              RingFeature::entropy, RingFeature::additive),
                                            ::testing::ValuesIn(kSanitized ? std::vector{2} : std::vector{8, 4, 2})),
                         [](const auto& info) {
                           return std::string(testing::name_of(std::get<0>(info.param))) + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

constexpr RingFeature kByHead[] = {RingFeature::alibi, RingFeature::dropout, RingFeature::additive};

// Schemes over the whole group take layouts that do not know of ulysses.
TEST(ContextAttention, LayoutsWithoutPieces) {
  for (const auto feature : {RingFeature::window, RingFeature::entropy}) {
    const RingCase c = testing::make_ring_case(feature, 97, 8, 4, 3);
    const RingNumbers dense = testing::dense_numbers(c);
    for (const auto order : kOrders) {
      for (ContextLayout layout : schemes(order, 2, 2)) {
        layout.pieces = false;
        if (layout.scheme != ContextScheme::two_d) expect_dense(c, dense, layout);
      }
    }
  }
}

// Ranks with different numbers of heads: 3/3/2 whole groups of 8/8, 8/4 over 3 (4, 2, 2), and shares that cut key
// heads: 8/2 over 3 (0 | 0 1 1 | 1), 8/1 over 5, 6/3 over 4 and 5.
TEST(ContextAttention, UnevenHeads) {
  struct Heads {
    int64_t heads, kv_heads, ranks;
  };
  for (const Heads h :
       {Heads{8, 8, 3}, Heads{8, 4, 3}, Heads{8, 2, 3}, Heads{8, 1, 5}, Heads{6, 3, 4}, Heads{6, 3, 5}}) {
    for (const auto feature : kByHead) {
      const RingCase c = testing::make_ring_case(feature, 61, h.heads, h.kv_heads, 23);
      const RingNumbers dense = testing::dense_numbers(c);
      for (const auto order : orders(static_cast<int>(h.heads + h.ranks))) {
        expect_dense(c, dense, {order, 1, h.ranks, ContextScheme::two_d});
        expect_dense(c, dense, {order, h.ranks, 1, ContextScheme::ulysses});
        if (2 * h.ranks <= 8) expect_dense(c, dense, {order, 2, h.ranks, ContextScheme::two_d});
        expect_dense(c, dense, {order, h.ranks, 1, ContextScheme::all_gather, 3});
      }
    }
  }
}

// Checked collectives: ranks without tokens call the same operations in the same order.
TEST(ContextAttention, SequencesShorterThanTheGroupLeaveRanksWithoutTokens) {
  CommOptions checked;
  checked.checked = true;
  for (const int64_t tokens : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}, int64_t{7}}) {
    for (const auto feature : {RingFeature::window, RingFeature::dropout, RingFeature::additive}) {
      const RingCase c = testing::make_ring_case(feature, tokens, 8, 2, 5);
      const RingNumbers dense = testing::dense_numbers(c);
      for (const auto order : orders(static_cast<int>(tokens))) {
        for (ContextLayout layout : schemes(order, 2, 4)) {
          expect_dense(c, dense, layout, checked);
          layout.recompute = true;
          expect_dense(c, dense, layout, checked);
        }
      }
    }
  }
}

// The replay computes the same bits, and so do two runs.
TEST(ContextAttention, RecomputedAndRepeatedBitForBit) {
  for (const auto feature : {RingFeature::dropout, RingFeature::additive}) {
    const RingCase c = testing::make_ring_case(feature, 97, 8, 2, 2);
    for (ContextLayout layout : schemes(SequenceOrder::zigzag, 2, 3)) {
      if (layout.ranks() > 8) continue;
      const RingNumbers a = testing::solve_context(c, layout);
      for (const bool recompute : {false, true}) {
        layout.recompute = recompute;
        const RingNumbers b = testing::solve_context(c, layout);
        EXPECT_EQ(a.out, b.out) << layout.name();
        EXPECT_EQ(a.entropy, b.entropy) << layout.name();
        EXPECT_EQ(a.dq, b.dq) << layout.name();
        EXPECT_EQ(a.dk, b.dk) << layout.name();
        EXPECT_EQ(a.dv, b.dv) << layout.name();
        EXPECT_EQ(a.dy, b.dy) << layout.name();
      }
    }
  }
}

// T5 under every scheme: see RingAttention.DropoutBitsAreEqualInAllLayouts.
TEST(ContextAttention, DropoutBitsAreEqualInAllSchemes) {
  RingCase c = testing::make_ring_case(RingFeature::dropout, 64, 4, 2, 21);
  std::fill(c.dense.q.begin(), c.dense.q.end(), 0.0);
  for (size_t i = 0; i < c.dense.v.size(); ++i) {
    const auto position = static_cast<int64_t>(i) / (2 * 6) % 64;
    c.dense.v[i] = static_cast<int64_t>(i) % 6 == position % 6 ? 1.0 : 0.0;
  }
  const RingNumbers dense = testing::dense_numbers(c);
  for (const ContextLayout& layout : schemes(SequenceOrder::striped, 2, 2)) {
    const RingNumbers n = testing::solve_context(c, layout);
    for (size_t i = 0; i < n.out.size(); ++i) {
      ASSERT_NEAR(n.out[i], dense.out[i], 1e-3) << layout.name() << " element " << i;
    }
  }
}

int64_t largest_message(const RingCase& c, const ContextLayout& layout) {
  host_allocator().reset_peak();
  testing::solve_context(c, layout);
  return host_allocator().stats().largest_by_tag[MemoryTag::communication];
}

// Bytes of B x rows x columns.
constexpr int64_t bytes(int64_t rows, int64_t columns) { return 2 * rows * columns * 4; }

TEST(ContextAttention, BuffersAreThoseOfTheSpecification) {
  const RingCase c = testing::make_ring_case(RingFeature::causal, 256, 4, 4, 2);
  const auto zigzag = SequenceOrder::zigzag;
  // All-gather: the whole sequence, but only `stride` heads of it.
  EXPECT_EQ(largest_message(c, {zigzag, 4, 1, ContextScheme::all_gather, 1}), bytes(256, 1 * (8 + 6)));
  EXPECT_EQ(largest_message(c, {zigzag, 4, 1, ContextScheme::all_gather, 3}), bytes(256, 3 * (8 + 6)));
  EXPECT_EQ(largest_message(c, {zigzag, 4, 1, ContextScheme::all_gather, 0}), bytes(256, 4 * (8 + 6)));
  // Ulysses: q, k and v of a rank's share, whatever the number of ranks; nothing of the size of the sequence.
  EXPECT_EQ(largest_message(c, {zigzag, 4, 1, ContextScheme::ulysses}), bytes(256 / 4, 4 * (8 + 8 + 6)));
  EXPECT_EQ(largest_message(c, {zigzag, 1, 2, ContextScheme::two_d}), bytes(256 / 2, 4 * (8 + 8 + 6)));
  EXPECT_EQ(largest_message(c, {zigzag, 2, 2, ContextScheme::two_d}), bytes(256 / 4, 4 * (8 + 8 + 6)));
}

TEST(ContextAttention, RefusesMoreUlyssesRanksThanHeads) {
  const RingCase c = testing::make_ring_case(RingFeature::causal, 16, 4, 2, 2);
  const RingNumbers dense = testing::dense_numbers(c);
  try {
    testing::solve_context(c, {SequenceOrder::zigzag, 1, 6, ContextScheme::two_d});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::config);
  }
  expect_dense(c, dense, {SequenceOrder::zigzag, 1, 6, ContextScheme::ring});
  expect_dense(c, dense, {SequenceOrder::zigzag, 1, 6, ContextScheme::all_gather, 1});
}

TEST(ContextAttention, RefusesGroupsThatContradictTheLayout) {
  const RingCase c = testing::make_ring_case(RingFeature::causal, 16, 4, 2, 2);
  EXPECT_THROW(run_in_process(4,
                              [&](Communicator& world) {
                                testing::ContextWorld context(world, {SequenceOrder::zigzag, 2, 2});
                                Tape tape;
                                const Var q = tape.input(Tensor::zeros({8, 32}));
                                const Var k = tape.input(Tensor::zeros({8, 16}));
                                SequenceBatch batch = c.batch;
                                batch.layout = SequenceLayout(SequenceOrder::zigzag, 16, 4);  // pieces are missing
                                ContextOptions options;
                                options.heads = 4;
                                options.kv_heads = 2;
                                context_attention(tape, context.groups(), ContextScheme::two_d, c.dense.spec, q, k, k,
                                                  batch, options);
                              }),
               Error);
}

}  // namespace
}  // namespace farsight
