// SPDX-License-Identifier: Apache-2.0
// The tiles that the attention kernels of the device visit: the bounds of the rows and the search of a warp, against
// lists made by looking at every row. The bounds come from the device of the test, the search runs on the emulator.
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention/bounds_cuda.h"
#include "kernels/attention/mask.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/rows.h"
#include "tests/sanitized.h"

namespace farsight::cuda {
namespace {

using Generator = std::mt19937_64;
using Steps = std::vector<int64_t>;
using Bounds = std::vector<CudaRowBounds>;

int64_t pick(Generator& g, int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(g); }

// --- The search alone, with the votes of 32 lanes counted on the host.

struct CountedVotes {
  template <class Test>
  int operator()(const Test& test) const {
    ++*count;
    int lane = 0;
    while (lane < 32 && !test(lane)) ++lane;
    return lane;
  }
  int64_t* count;
};

// All tiles that find_tile names one after another; a group passes where one of its tiles does, or at random.
template <int kGroupTiles>
Steps found_tiles(const std::vector<bool>& any, const std::vector<bool>& groups, int64_t* votes) {
  const auto tiles = static_cast<int>(any.size());
  const auto next = [&](int from) {
    return find_tile<kGroupTiles>(
        from, tiles, CountedVotes{votes}, [&](int tile) { return any.at(static_cast<size_t>(tile)); },
        [&](int group) { return groups.at(static_cast<size_t>(group)); });
  };
  Steps found;
  for (int tile = next(0); tile < tiles; tile = next(tile + 1)) found.push_back(tile);
  return found;
}

template <int kGroupTiles>
void expect_all_found(Generator& g) {
  const int64_t tiles = pick(g, 0, 200 * kGroupTiles);
  const double density = std::array{0.0, 0.001, 0.03, 0.5, 1.0}[static_cast<size_t>(pick(g, 0, 4))];
  std::vector<bool> any(static_cast<size_t>(tiles));
  std::vector<bool> groups(static_cast<size_t>(ceil_div(tiles, kGroupTiles)));
  Steps expected;
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = pick(g, 0, 9) == 0;
  // Whole groups and single tiles, so that runs begin and end anywhere.
  const bool runs = pick(g, 0, 1) == 1;
  std::bernoulli_distribution yes(density);
  for (size_t i = 0; i < any.size(); ++i) {
    any[i] = runs && i > 0 && pick(g, 0, 40) != 0 ? any[i - 1] : yes(g);
    if (!any[i]) continue;
    expected.push_back(static_cast<int64_t>(i));
    groups[i / kGroupTiles] = true;
  }
  int64_t votes = 0;
  ASSERT_EQ(found_tiles<kGroupTiles>(any, groups, &votes), expected) << tiles << " tiles, density " << density;
}

TEST(TileSearch, FindsEveryTileInOrder) {
  Generator g(1);
  for (int repeat = 0; repeat < (kSanitized ? 30 : 300); ++repeat) {
    expect_all_found<16>(g);
    expect_all_found<32>(g);
  }
}

// A window over many tokens: rows of queries in bf16, tiles of 64 keys.
TEST(TileSearch, PassesGroupsWithoutVisibleTiles) {
  constexpr int64_t kTokens = 1 << 20, kWindow = 4096, kRows = 128, kColumns = 64, kGroupTiles = 16;
  constexpr int64_t kTiles = kTokens / kColumns;
  int64_t all_votes = 0, most = 0, visible = 0;
  for (int64_t first = 0; first < kTokens; first += kTokens / 64) {
    std::vector<bool> any(kTiles), groups(kTiles / kGroupTiles);
    for (int64_t tile = 0; tile < kTiles; ++tile) {
      const int64_t least = first - (tile * kColumns + kColumns - 1), largest = first + kRows - 1 - tile * kColumns;
      if (largest < 0 || least >= kWindow) continue;
      any[static_cast<size_t>(tile)] = groups[static_cast<size_t>(tile / kGroupTiles)] = true;
    }
    int64_t votes = 0;
    const Steps found = found_tiles<kGroupTiles>(any, groups, &votes);
    ASSERT_EQ(static_cast<int64_t>(found.size()), std::count(any.begin(), any.end(), true));
    all_votes += votes;
    most = std::max(most, votes);
    visible = std::max(visible, static_cast<int64_t>(found.size()));
  }
  std::printf("window %d of %d tokens: at most %d tiles visible, %d votes of a warp (mean %d), %d tiles in all\n",
              static_cast<int>(kWindow), static_cast<int>(kTokens), static_cast<int>(visible), static_cast<int>(most),
              static_cast<int>(all_votes / 64), static_cast<int>(kTiles));
  // A vote for each visible tile, for each 32 groups, and a few where one becomes the other.
  EXPECT_LE(most, visible + kTiles / kGroupTiles / 32 + 6);
}

// --- The search of the kernels.

struct Rows {
  std::vector<int32_t> positions, documents;  // [B, tokens]
  int64_t tokens;
  Bounds bounds;
};

struct Problem {
  int64_t batch;
  Rows q, k;
  bool documents;
  int32_t low, high;
};

// Positions of one sample's shard of `span` tokens: a slice, two chunks, stripes, or any.
std::vector<int32_t> random_positions(Generator& g, int64_t count, int64_t span) {
  std::vector<int32_t> all(static_cast<size_t>(span));
  std::iota(all.begin(), all.end(), 0);
  const int64_t kind = pick(g, 0, 4);
  if (kind == 0) std::rotate(all.begin(), all.begin() + pick(g, 0, span - count), all.end());
  if (kind == 1) std::rotate(all.begin() + count / 2, all.end() - (count - count / 2), all.end());
  if (kind == 2) std::stable_partition(all.begin(), all.end(), [](int32_t p) { return p % 3 == 1; });
  if (kind == 3) std::shuffle(all.begin(), all.end(), g);
  all.resize(static_cast<size_t>(count));
  if (kind == 4) {  // pieces of the slice in any order
    for (int64_t i = 0; i + 700 < count; i += 700) {
      const int64_t j = pick(g, 0, (count - 700) / 700) * 700;
      std::swap_ranges(all.begin() + i, all.begin() + i + 350, all.begin() + j + (i == j ? 0 : 350));
    }
  }
  return all;
}

Rows random_rows(Generator& g, int64_t batch, int64_t span, const std::vector<int32_t>& documents) {
  Rows rows;
  rows.tokens = pick(g, 1, pick(g, 0, 5) == 0 ? std::min<int64_t>(span, 100) : span);
  for (int64_t b = 0; b < batch; ++b) {
    const auto positions = random_positions(g, rows.tokens, span);
    rows.positions.insert(rows.positions.end(), positions.begin(), positions.end());
    for (const int32_t p : positions) rows.documents.push_back(documents[static_cast<size_t>(p)]);
  }
  return rows;
}

Problem random_problem(Generator& g) {
  const int64_t span = pick(g, 1, 6000);
  std::vector<int32_t> documents(static_cast<size_t>(span));
  const auto length = std::array<int64_t, 4>{40, 300, 1024, 2500}[static_cast<size_t>(pick(g, 0, 3))];
  for (size_t t = 1; t < documents.size(); ++t) documents[t] = documents[t - 1] + (pick(g, 1, length) == 1 ? 1 : 0);
  Problem p;
  p.batch = pick(g, 1, 2);
  p.q = random_rows(g, p.batch, span, documents);
  p.k = random_rows(g, p.batch, span, documents);
  if (p.q.tokens == p.k.tokens || pick(g, 0, 1) == 0) p.k = p.q;
  p.documents = pick(g, 0, 1) == 1;
  // As MaskRule: causal or a window to the right, all or a window to the left.
  p.low = pick(g, 0, 2) > 0 ? 0 : -static_cast<int32_t>(pick(g, 0, 300));
  p.high = pick(g, 0, 2) > 0 ? static_cast<int32_t>(pick(g, 0, 1500)) : INT32_MAX;
  return p;
}

RowBounds bounds_of(const Rows& rows, int64_t b, int64_t first, int64_t count) {
  RowBounds r;
  for (int64_t t = first; t < std::min(first + count, rows.tokens); ++t) {
    const auto at = static_cast<size_t>(b * rows.tokens + t);
    r.include({rows.positions[at], rows.positions[at], rows.documents[at], rows.documents[at]});
  }
  return r;
}

struct Walk {
  CudaAttention a;
  int64_t b, first, heads;
  std::vector<Steps>* steps;  // of every thread
};

// What for_tiles does with the search, by two warps; heads 0: one head through next().
template <Side kOwn, int kColumns, int kRows>
void walk_kernel(const Walk& w) {
  auto& search = *dynamic_shared<TileSearch<kOwn, kColumns>>();
  if (threadIdx.x == 0) search.begin(w.a, w.b, w.first, kRows);
  __syncthreads();
  const auto next = [&](int64_t step) { return w.heads == 0 ? search.next(step) : search.next_step(step, w.heads); };
  const int64_t end = std::max<int64_t>(w.heads, 1) * search.tiles;
  for (int64_t step = next(0); step < end; step = next(step + 1)) (*w.steps)[threadIdx.x].push_back(step);
}

class TileSearchOnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
    device_ = std::make_unique<CudaDevice>(0);
    scope_ = std::make_unique<CudaScope>(*device_);
  }

  static void find_bounds(const Problem& p, Rows& rows) {
    const Tensor positions = device_copy(rows.positions), documents = device_copy(rows.documents);
    const Tensor bounds = Tensor::empty({p.batch, cuda_bounds(rows.tokens), 4}, DType::i32);
    const CudaAttentionBounds a{p.batch, rows.tokens, static_cast<const int32_t*>(positions.raw()),
                                p.documents ? static_cast<const int32_t*>(documents.raw()) : nullptr,
                                static_cast<CudaRowBounds*>(bounds.raw())};
    cuda_device().run("attention bounds", &CudaBackend::attention_bounds, a);
    const Tensor host = bounds.to(Device::cpu);
    const auto* from = reinterpret_cast<const CudaRowBounds*>(host.raw());
    rows.bounds.assign(from, from + p.batch * cuda_bounds(rows.tokens));
  }

  static void expect_bounds(const Problem& p, const Rows& rows) {
    const int64_t fine = cuda_fine_bounds(rows.tokens);
    for (int64_t i = 0; i < p.batch * cuda_bounds(rows.tokens); ++i) {
      const int64_t b = i / cuda_bounds(rows.tokens), at = i % cuda_bounds(rows.tokens);
      const RowBounds want = at < fine ? bounds_of(rows, b, at * 32, 32) : bounds_of(rows, b, (at - fine) * 1024, 1024);
      const CudaRowBounds& got = rows.bounds[static_cast<size_t>(i)];
      ASSERT_EQ(std::pair(got.position_min, got.position_max), std::pair(want.position_min, want.position_max)) << at;
      const std::pair documents =
          p.documents ? std::pair(want.document_min, want.document_max) : std::pair<int32_t, int32_t>(0, 0);
      ASSERT_EQ(std::pair(got.document_min, got.document_max), documents) << "bounds " << at << " of " << fine;
    }
  }

  template <Side kOwn, int kColumns, int kRows>
  static void expect_walk(const Problem& p, int64_t b, int64_t first, int64_t heads) {
    MaskRule rule{AttentionSpec{}};
    rule.low = p.low;
    rule.high = p.high;
    rule.documents = p.documents;
    const Rows &own = kOwn == Side::queries ? p.q : p.k, &other = kOwn == Side::queries ? p.k : p.q;
    const int64_t tiles = ceil_div(other.tokens, kColumns);
    const RowBounds rows = bounds_of(own, b, first, kRows);
    Steps expected;
    for (int64_t step = 0; step < std::max<int64_t>(heads, 1) * tiles; ++step) {
      const RowBounds tile = bounds_of(other, b, step % tiles * kColumns, kColumns);
      const auto& [q, k] = kOwn == Side::queries ? std::tie(rows, tile) : std::tie(tile, rows);
      if (classify(rule, q, k) != TileClass::empty) expected.push_back(step);
    }
    std::vector<Steps> steps(64);
    Walk w{};
    w.a.q_tokens = p.q.tokens;
    w.a.k_tokens = p.k.tokens;
    w.a.q_documents = w.a.k_documents = p.documents ? p.q.documents.data() : nullptr;
    w.a.q_bounds = p.q.bounds.data();
    w.a.k_bounds = p.k.bounds.data();
    w.a.low = p.low;
    w.a.high = p.high;
    w.b = b;
    w.first = first;
    w.heads = heads;
    w.steps = &steps;
    emulation::run_grid("walk", {1, 1, 1}, 64, sizeof(TileSearch<kOwn, kColumns>),
                        [&] { walk_kernel<kOwn, kColumns, kRows>(w); });
    for (const Steps& found : steps) {
      ASSERT_EQ(found, expected) << "rows from " << first << ", tiles of " << kColumns << ", " << heads << " heads";
    }
  }

 private:
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaScope> scope_;
};

TEST_F(TileSearchOnDevice, VisitsTheTilesThatABruteForceListHas) {
  Generator g(2);
  for (int repeat = 0; repeat < (kSanitized ? 20 : 300); ++repeat) {
    auto p = random_problem(g);
    find_bounds(p, p.q);
    find_bounds(p, p.k);
    const std::string what = "problem " + std::to_string(repeat) + ": " + std::to_string(p.q.tokens) + " x " +
                             std::to_string(p.k.tokens) + ", [" + std::to_string(p.low) + ", " +
                             std::to_string(p.high) + "]" + (p.documents ? ", documents" : "");
    SCOPED_TRACE(what);
    expect_bounds(p, p.q);
    expect_bounds(p, p.k);
    if (HasFatalFailure()) return;
    for (int block = 0; block < 3; ++block) {
      const int64_t b = pick(g, 0, p.batch - 1);
      const int64_t query = pick(g, 0, (p.q.tokens - 1) / 128), key = pick(g, 0, (p.k.tokens - 1) / 128);
      expect_walk<Side::queries, 64, 128>(p, b, query * 128, 0);
      expect_walk<Side::queries, 32, 64>(p, b, query * 128, 0);
      expect_walk<Side::keys, 64, 128>(p, b, key * 128, pick(g, 1, 3));
      expect_walk<Side::keys, 32, 64>(p, b, key * 128, pick(g, 1, 3));
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace farsight::cuda
