// SPDX-License-Identifier: Apache-2.0
// The list of layouts and the dry run: complete, legal, quick; a broken placement is found.
#include "trainer/plan_candidates.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "trainer/plan_auto.h"
#include "trainer/plan_dry_run.h"

namespace farsight {
namespace {

Config model(const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all{"model.vocab=32000",  "model.layers=32",         "model.width=4096",
                               "model.heads=32",     "model.kv_heads=8",        "model.mlp_width=11008",
                               "data.sequence=4096", "train.batch=1024 samples"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return parse_config("data.train = ['none.h5']\n", "model.toml", all);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

CandidateRequest request(int64_t ranks, int64_t memory) {
  CandidateRequest r;
  r.ranks = ranks;
  r.vocab = 32000;
  r.memory_limit = memory;
  return r;
}

TEST(Candidates, BestFirstAndAllOfThemRun) {
  const auto all = plan_candidates(model(), request(16, int64_t{80} << 30), h100_calibration());
  const auto end = std::find_if(all.begin(), all.end(), [](const LayoutCandidate& c) { return !c.rejected.empty(); });
  ASSERT_GT(end - all.begin(), 20);
  ASSERT_NE(end, all.end());
  for (auto c = all.begin(); c != end; ++c) {
    EXPECT_LE(c->memory.total(), int64_t{80} << 30);
    EXPECT_EQ(c->layout.data * c->layout.ring * c->layout.ulysses * c->layout.tensor, 16);
    EXPECT_EQ(c->layout.data * c->layout.micro_batch * c->layout.passes, 1024);
    if (c != all.begin()) {
      EXPECT_LE(c->time.tokens_per_s, (c - 1)->time.tokens_per_s);
    }
  }
  EXPECT_TRUE(std::all_of(end, all.end(), [](const LayoutCandidate& c) { return !c.rejected.empty(); }));
  const std::string text = candidates_text(all, 5);
  EXPECT_NE(text.find("best " + candidate_name(all.front())), std::string::npos) << text;
}

// The reason is the message of the refusal itself.
TEST(Candidates, RejectedInTheWordsOfTheRefusal) {
  const auto all = plan_candidates(model({"model.heads=4", "model.kv_heads=4", "train.batch=12 samples"}),
                                   request(8, int64_t{8} << 30), h100_calibration());
  const auto rejected = [&](const std::string& words) {
    return std::count_if(all.begin(), all.end(),
                         [&](const LayoutCandidate& c) { return c.rejected.find(words) != std::string::npos; });
  };
  EXPECT_EQ(rejected("parallel.tensor = 8 is more than model.heads = 4"), 1);
  EXPECT_GT(rejected("train.batch = 12 samples is not a multiple of 8 data ranks"), 0);
  EXPECT_GT(rejected("8.00 GiB are allowed"), 0);
  EXPECT_GT(rejected("8 ranks share 4 heads by all-to-all"), 0);
}

TEST(Candidates, KeysThatAreNotFreeStay) {
  CandidateRequest r = request(16, 0);
  r.freedom = {.tensor = false, .sequence_parallel = false, .zero = false, .recompute = false};
  for (const LayoutCandidate& c :
       plan_candidates(model({"parallel.tensor=2", "parallel.zero=1"}), r, h100_calibration())) {
    EXPECT_EQ(c.layout.tensor, 2);
    EXPECT_EQ(c.config.parallel.zero, 1);
    EXPECT_EQ(c.config.train.recompute, RecomputeChoice::none);
  }
}

TEST(AutomaticLayout, TakesTheBestOfWhatIsOpen) {
  const Config open = model({"parallel.tensor=auto", "parallel.zero=auto", "parallel.ring=2"});
  EXPECT_TRUE(has_automatic_layout(open));
  EXPECT_EQ(parse_config(to_toml(open), "again.toml"), open);
  EXPECT_THROW(resolve_layout(open, 16), Error);
  const Calibration h100 = h100_calibration();
  const Config chosen = choose_layout(open, 16, 32000, int64_t{80} << 30, h100, 8);
  EXPECT_FALSE(has_automatic_layout(chosen));
  EXPECT_EQ(chosen.parallel.ring, 2);
  EXPECT_EQ(chosen.parallel.ulysses, 1);
  const RunLayout layout = resolve_layout(chosen, 16);
  EXPECT_LE(memory_plan(chosen, layout, 32000, h100.precision).total(), int64_t{80} << 30);
  EXPECT_EQ(choose_layout(open, 16, 32000, int64_t{80} << 30, h100, 8), chosen);
  EXPECT_EQ(choose_layout(chosen, 16, 32000, 1, h100, 8), chosen);  // nothing is open
  EXPECT_THROW(choose_layout(open, 16, 32000, int64_t{1} << 30, h100, 8), Error);
  // Without ranks to share them with, nothing is cut.
  const Config alone = choose_layout(model({"parallel.tensor=auto", "parallel.ulysses=auto", "parallel.ring=auto"}), 1,
                                     32000, 0, h100, 8);
  EXPECT_EQ(alone.parallel, model().parallel);
}

TEST(Candidates, SlowLinksBetweenNodesKeepTensorRanksInside) {
  CandidateRequest r = request(64, int64_t{80} << 30);
  r.ranks_per_node = 4;
  EXPECT_LE(plan_candidates(model(), r, h100_calibration()).front().layout.tensor, 4);
}

TEST(Candidates, AThousandRanksTakeSeconds) {
  const auto start = std::chrono::steady_clock::now();
  const auto all = plan_candidates(model(), request(1024, int64_t{80} << 30), h100_calibration());
  printf("%zu candidates for 1024 ranks in %.2f s\n", all.size(), seconds_since(start));
  EXPECT_GT(all.size(), 1000U);
}

TEST(DryRun, AThousandRanksFitTogether) {
  const Config config = model({"parallel.tensor=8", "parallel.ring=4", "parallel.ulysses=2", "parallel.zero=1"});
  const auto start = std::chrono::steady_clock::now();
  const DryRun run = dry_run(config, resolve_layout(config, 1024), 32003);  // 8 does not divide the vocabulary
  printf("dry run of %d ranks in %.2f s\n", static_cast<int>(run.ranks), seconds_since(start));
  EXPECT_TRUE(run.problems.empty()) << run.problems.front();
  EXPECT_EQ(run.slices, 1024 * (9 * 32 + 2));
}

TEST(DryRun, UnevenAndReplicatedHeadsFitToo) {
  for (const auto& [ranks, overrides] : std::vector<std::pair<int64_t, std::vector<std::string>>>{
           {3, {"parallel.tensor=3"}},
           {32, {"parallel.tensor=16", "parallel.data=2", "parallel.zero=3"}},
           {12, {"parallel.tensor=2", "parallel.ring=3", "parallel.ulysses=2", "parallel.order=striped"}},
           {8, {"parallel.data=8", "parallel.zero=2", "parallel.zero_group=4"}}}) {
    std::vector<std::string> all = overrides;
    all.insert(all.end(), {"model.layers=2", "train.batch=24 samples"});
    const Config config = model(all);
    const DryRun run = dry_run(config, resolve_layout(config, ranks), 32003);
    EXPECT_TRUE(run.problems.empty()) << run.problems.front();
  }
}

class BrokenPlacement : public testing::Test {
 protected:
  BrokenPlacement()
      : config_(model({"parallel.tensor=4", "parallel.ring=2", "model.layers=1"})),
        layout_(resolve_layout(config_, 16)),
        tensors_(placed_tensors(config_, layout_, 32000)),
        mesh_(1, 2, 2, 1, 4) {}
  PlacedTensor& tensor(const std::string& end) {
    return *std::find_if(tensors_.begin(), tensors_.end(),
                         [&](const PlacedTensor& t) { return t.name.ends_with(end); });
  }
  std::vector<std::string> found() const {
    auto problems = check_placements(tensors_, mesh_);
    const auto heads = check_heads(tensors_, config_, mesh_);
    problems.insert(problems.end(), heads.begin(), heads.end());
    return problems;
  }

  Config config_;
  RunLayout layout_;
  std::vector<PlacedTensor> tensors_;
  MeshShape mesh_;
};

TEST_F(BrokenPlacement, NoneToBeginWith) { EXPECT_TRUE(found().empty()) << found().front(); }

TEST_F(BrokenPlacement, SizesThatDoNotAddUp) {
  tensor("q.weight").placement.shard[Axis::tp].sizes = {1024, 1024, 1024, 1023};
  ASSERT_FALSE(found().empty());
  EXPECT_EQ(found().front().find("layers.0.attention.q.weight"), 0U) << found().front();
}

TEST_F(BrokenPlacement, HeadsOnTheWrongRank) {
  tensor("q.weight").placement.shard[Axis::tp].sizes = {2048, 512, 512, 1024};
  ASSERT_EQ(found().size(), 1U);
  EXPECT_NE(found().front().find("rank 0 holds 2048 rows, its heads need 1024"), std::string::npos) << found().front();
}

TEST_F(BrokenPlacement, AnAxisTooMuchAndADimensionTooMany) {
  tensor("down.weight").placement.shard[Axis::ring] = {1, {}};
  tensor("down.weight").placement.shard[Axis::zero] = {1, {}};  // the same ranks cut twice: half of the pieces are gone
  tensor("norm.weight").placement.shard[Axis::tp] = {1, {}};
  EXPECT_EQ(found().size(), 2U);
}

TEST_F(BrokenPlacement, AGradientThatIsNotSummed) {
  tensor("embedding.weight").placement.partial = AxisSet{Axis::dp};
  ASSERT_EQ(found().size(), 1U);
  EXPECT_EQ(found().front(), "embedding.weight: its gradient is not summed over ring");
}

}  // namespace
}  // namespace farsight
