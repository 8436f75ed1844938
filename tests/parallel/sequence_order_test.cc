// SPDX-License-Identifier: Apache-2.0
#include "parallel/sequence_order.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention/spec.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "parallel/sequence_batch.h"

namespace farsight {
namespace {

constexpr SequenceOrder kOrders[] = {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped};

TEST(SequenceLayout, EveryPositionHasOneOwnerWhateverTheSizes) {
  for (const auto order : kOrders) {
    for (const int64_t tokens : {0, 1, 2, 3, 7, 8, 96, 97}) {
      for (int64_t owners = 1; owners <= 9; ++owners) {
        for (const int64_t stripe : {1, 3, 50}) {
          const SequenceLayout layout(order, tokens, owners, stripe);
          std::vector<int> seen(static_cast<size_t>(tokens), 0);
          int64_t most = 0;
          for (int64_t owner = 0; owner < owners; ++owner) {
            const auto positions = layout.positions(owner);
            ASSERT_EQ(static_cast<int64_t>(positions.size()), layout.count(owner));
            ASSERT_TRUE(std::is_sorted(positions.begin(), positions.end()));
            most = std::max(most, layout.count(owner));
            for (const int32_t p : positions) {
              ++seen[static_cast<size_t>(p)];
              ASSERT_EQ(layout.owner_of(p), owner);
            }
          }
          ASSERT_EQ(layout.max_count(), most);
          ASSERT_EQ(seen, std::vector<int>(static_cast<size_t>(tokens), 1));
        }
      }
    }
  }
}

// Each member's positions, joined over its pieces in order, are those of the layout without pieces.
TEST(SequenceLayout, PiecesCutEveryMemberIntoAscendingRuns) {
  for (const auto order : kOrders) {
    for (const int64_t tokens : {0, 1, 2, 5, 8, 96, 97}) {
      for (const int64_t ring : {1, 2, 3, 4}) {
        for (const int64_t pieces : {1, 2, 3, 5}) {
          for (const int64_t stripe : {1, 4}) {
            const SequenceLayout layout(order, tokens, ring * pieces, stripe, pieces);
            const SequenceLayout members(order, tokens, ring, stripe);
            ASSERT_EQ(layout.owners(), ring * pieces);
            ASSERT_EQ(layout.ring(), ring);
            ASSERT_EQ(layout.pieces(), pieces);
            ASSERT_EQ(layout.member_layout(), members);
            for (int64_t member = 0; member < ring; ++member) {
              std::vector<int32_t> joined;
              for (int64_t piece = 0; piece < pieces; ++piece) {
                const int64_t owner = member * pieces + piece;
                const auto run = layout.positions(owner);
                ASSERT_EQ(layout.count(owner), static_cast<int64_t>(run.size()));
                ASSERT_LE(std::abs(layout.count(owner) * pieces - members.count(member)), pieces);
                for (const int32_t p : run) ASSERT_EQ(layout.owner_of(p), owner);
                for (const auto& r : layout.ranges(owner)) ASSERT_LT(r.begin, r.end);
                joined.insert(joined.end(), run.begin(), run.end());
              }
              ASSERT_EQ(joined, members.positions(member));
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(SequenceLayout(SequenceOrder::zigzag, 16, 4, 1, 2).ranges(1), (std::vector<SequenceRange>{{12, 16}}));
  EXPECT_EQ(SequenceLayout(SequenceOrder::striped, 12, 6, 2, 3).ranges(1), (std::vector<SequenceRange>{{4, 6}}));
  EXPECT_EQ(SequenceLayout(SequenceOrder::striped, 20, 4, 3, 2).ranges(2),
            (std::vector<SequenceRange>{{3, 6}, {9, 10}}));
  EXPECT_THROW(SequenceLayout(SequenceOrder::zigzag, 16, 4, 1, 3), Error);
}

TEST(SequenceLayout, RangesAreMaximalAndNotEmpty) {
  EXPECT_EQ(SequenceLayout(SequenceOrder::contiguous, 10, 3).ranges(1), (std::vector<SequenceRange>{{3, 6}}));
  EXPECT_EQ(SequenceLayout(SequenceOrder::zigzag, 8, 2).ranges(0), (std::vector<SequenceRange>{{0, 2}, {6, 8}}));
  EXPECT_EQ(SequenceLayout(SequenceOrder::zigzag, 8, 2).ranges(1), (std::vector<SequenceRange>{{2, 6}}));
  EXPECT_EQ(SequenceLayout(SequenceOrder::striped, 10, 2, 3).ranges(0), (std::vector<SequenceRange>{{0, 3}, {6, 9}}));
  EXPECT_EQ(SequenceLayout(SequenceOrder::striped, 10, 2, 3).ranges(1), (std::vector<SequenceRange>{{3, 6}, {9, 10}}));
  EXPECT_EQ(SequenceLayout(SequenceOrder::striped, 10, 1, 3).ranges(0), (std::vector<SequenceRange>{{0, 10}}));
  EXPECT_TRUE(SequenceLayout(SequenceOrder::contiguous, 1, 4).ranges(0).empty());
}

TEST(SequenceLayout, SharesOfContiguousAndZigzagDifferByLittle) {
  for (const int64_t tokens : {97, 1000}) {
    for (int64_t owners = 2; owners <= 8; ++owners) {
      for (const auto order : kOrders) {
        const SequenceLayout layout(order, tokens, owners);
        for (int64_t owner = 0; owner < owners; ++owner) {
          EXPECT_NEAR(static_cast<double>(layout.count(owner)),
                      static_cast<double>(tokens) / static_cast<double>(owners),
                      order == SequenceOrder::zigzag ? 2.0 : 1.0);
        }
      }
    }
  }
}

double imbalance(const std::vector<int64_t>& pairs) {
  const double mean =
      static_cast<double>(std::accumulate(pairs.begin(), pairs.end(), int64_t{0})) / static_cast<double>(pairs.size());
  return static_cast<double>(*std::max_element(pairs.begin(), pairs.end())) / mean;
}

std::vector<int32_t> three_documents(int64_t tokens) {
  std::vector<int32_t> documents;
  for (int64_t p = 0; p < tokens; ++p) documents.push_back(p < tokens / 5 ? 0 : p < tokens * 5 / 8 ? 1 : 2);
  return documents;
}

// T11, and the first column of the specification's table.
TEST(WorkBalance, OfCausalAttention) {
  const auto of = [](SequenceOrder order, int64_t owners, const std::vector<int32_t>& documents) {
    return imbalance(visible_pairs(SequenceLayout(order, 96, owners), documents, kNoWindow));
  };
  EXPECT_NEAR(of(SequenceOrder::contiguous, 2, {}), 1.49, 0.01);
  EXPECT_NEAR(of(SequenceOrder::contiguous, 4, {}), 1.74, 0.01);
  EXPECT_LE(of(SequenceOrder::zigzag, 4, {}), 1.05);
  EXPECT_NEAR(of(SequenceOrder::striped, 2, {}), 1.01, 0.01);
  EXPECT_NEAR(of(SequenceOrder::striped, 4, {}), 1.03, 0.01);
  EXPECT_LE(of(SequenceOrder::striped, 4, three_documents(96)), 1.10);
}

TEST(WorkBalance, CountsThePairsOfTheDenseMask) {
  const auto documents = three_documents(97);
  const int64_t window = 20;
  const SequenceLayout layout(SequenceOrder::zigzag, 97, 3);
  std::vector<int64_t> expected(3, 0);
  for (int64_t q = 0; q < 97; ++q) {
    for (int64_t k = 0; k <= q; ++k) {
      const bool same = documents[static_cast<size_t>(q)] == documents[static_cast<size_t>(k)];
      if (same && q - k <= window) ++expected[static_cast<size_t>(layout.owner_of(q))];
    }
  }
  EXPECT_EQ(visible_pairs(layout, documents, window), expected);
}

TEST(ChooseOrder, FollowsMaskAndDocuments) {
  const auto automatic = SequenceOrder::automatic;
  EXPECT_EQ(choose_order(automatic, false, true, kNoWindow, 4096, 4), SequenceOrder::zigzag);
  EXPECT_EQ(choose_order(automatic, true, true, kNoWindow, 4096, 4), SequenceOrder::striped);
  EXPECT_EQ(choose_order(automatic, true, true, 1024, 4096, 4), SequenceOrder::contiguous);
  EXPECT_EQ(choose_order(automatic, true, true, 1025, 4096, 4), SequenceOrder::striped);
  EXPECT_EQ(choose_order(automatic, false, false, kNoWindow, 4096, 4), SequenceOrder::contiguous);
  EXPECT_EQ(choose_order(automatic, false, true, kNoWindow, 4096, 1), SequenceOrder::contiguous);
  EXPECT_EQ(choose_order(SequenceOrder::striped, false, true, 16, 4096, 4), SequenceOrder::striped);
  EXPECT_EQ(parse_sequence_order("zigzag"), SequenceOrder::zigzag);
  EXPECT_THROW(parse_sequence_order("zig-zag"), Error);
  EXPECT_THROW(SequenceLayout(automatic, 4, 2), Error);
}

// Copies of a batch share what they upload, and may have other layouts or documents.
TEST(SequenceBatch, RowsOnADeviceAreThoseOfTheLayoutAtHand) {
  if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
  CudaDevice device(0);
  const CudaScope scope(device);
  SequenceBatch batch;
  batch.batch = 2;
  batch.layout = SequenceLayout(SequenceOrder::striped, 24, 4, 1, 2);
  batch.samples = {1, 2};
  SequenceBatch joined = batch, other = batch;
  joined.layout = batch.layout.member_layout();
  other.documents = Tensor::empty({2, 24}, DType::i32, MemoryTag::data, Device::cpu);
  for (int32_t i = 0; i < 48; ++i) other.documents.data<int32_t>()[i] = i / 5;
  const auto values = [](const Tensor& t) {
    const Tensor host = t.to(Device::cpu);
    return std::vector<int32_t>(host.data<int32_t>(), host.data<int32_t>() + host.numel());
  };
  for (int round = 0; round < 2; ++round) {
    for (const SequenceBatch* b : {&batch, &joined, &other}) {
      for (int64_t owner = 0; owner < b->layout.owners(); ++owner) {
        const SequenceRows there = b->device_rows(owner), here = b->key_rows(owner);
        EXPECT_EQ(there.positions.device(), Device::cuda);
        EXPECT_EQ(values(there.positions), values(here.positions));
        ASSERT_EQ(there.documents.defined(), here.documents.defined());
        if (here.documents.defined()) {
          EXPECT_EQ(values(there.documents), values(here.documents));
        }
      }
    }
  }
}

TEST(SequenceBatch, RowsCarryGlobalPositionsDocumentsAndOffsetsInThem) {
  SequenceBatch batch;
  batch.batch = 2;
  batch.layout = SequenceLayout(SequenceOrder::striped, 6, 2);
  batch.documents = Tensor::empty({2, 6}, DType::i32);
  const int32_t ids[] = {4, 4, 4, 9, 9, 9, 1, 2, 2, 2, 2, 3};
  std::copy(std::begin(ids), std::end(ids), batch.documents.data<int32_t>());
  batch.samples = {7, 8};
  const SequenceRows rows = batch.rows(1);
  const auto values = [](const Tensor& t) {
    const auto s = t.span<int32_t>();
    return std::vector<int32_t>(s.begin(), s.end());
  };
  EXPECT_EQ(values(rows.positions), (std::vector<int32_t>{1, 3, 5, 1, 3, 5}));
  EXPECT_EQ(values(rows.documents), (std::vector<int32_t>{4, 9, 9, 2, 2, 3}));
  EXPECT_EQ(values(rows.relative), (std::vector<int32_t>{1, 0, 2, 0, 2, 0}));
  EXPECT_EQ(batch.keys(1, 2, 3, Site::attention)[1], site_key(1, 2, 8, 3, Site::attention));
  batch.samples.pop_back();
  EXPECT_THROW(batch.check(), Error);
}

}  // namespace
}  // namespace farsight
