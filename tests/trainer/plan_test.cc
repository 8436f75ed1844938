// SPDX-License-Identifier: Apache-2.0
// Parameter counts of published architectures, and costs by hand calculation.
#include "trainer/plan.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "trainer/forecast/forecast_cost.h"
#include "trainer/plan_dataset.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

Config tiny(const std::vector<std::string>& overrides = {}) {
  return parse_config("data.train = ['none.h5']\n[model]\nvocab = 100\n", "tiny.toml", overrides);
}

TEST(ModelSize, Gpt2SmallHasItsPublishedCount) {
  // 124,439,808: GPT-2 "124M" with tied embeddings, 50257 tokens, 1024 positions, all biases.
  const Config config = load_config("launch/examples/gpt2-124m.toml");
  EXPECT_EQ(model_size(config, config.model.vocab).total(), 124439808);
}

TEST(ModelSize, LlamaShapeByHand) {
  // Llama 2 7B: 6,738,415,616 parameters; 32 layers, width 4096, 32 heads, MLP 11008, 32000 tokens, untied.
  const Config config = tiny(
      {"model.layers=32", "model.width=4096", "model.heads=32", "model.mlp_width=11008", "model.tie_embeddings=false"});
  EXPECT_EQ(model_size(config, 32000).total(), 6738415616);
}

TEST(ModelSize, MatrixParametersCountTheTiedHeadOnce) {
  const Config config = tiny({"model.layers=1", "model.width=8", "model.heads=2", "model.mlp_width=16"});
  // q, k, v, out: 4 * 64; gate, up, down: 3 * 128; head: 100 * 8.
  EXPECT_EQ(model_size(config, 100).matmul, 256 + 384 + 800);
  EXPECT_EQ(model_size(config, 100).total(), 256 + 384 + 800 + 3 * 8);
}

TEST(VisibleKeys, EqualACount) {
  for (const char* mask :
       {"causal", "causal and window(3,0)", "causal and window(100,0)", "window(5,0)", "causal and window(0,0)"}) {
    const Config config = tiny({"data.sequence=17", std::string("attention.mask=") + mask, "train.batch=1 samples"});
    const MaskConfig& m = config.attention.mask;
    int64_t pairs = 0;
    for (int64_t q = 0; q < 17; ++q)
      for (int64_t k = 0; k < 17; ++k)
        pairs += (!m.causal || k <= q) && q - k <= m.window_left && k - q <= m.window_right ? 1 : 0;
    EXPECT_NEAR(mean_visible_keys(config), static_cast<double>(pairs) / 17.0, 1e-12) << mask;
  }
}

TEST(Flops, FollowTheStatedConvention) {
  const Config config =
      tiny({"model.layers=1", "model.width=8", "model.heads=2", "model.mlp_width=16", "data.sequence=15"});
  EXPECT_DOUBLE_EQ(flops_per_token(config, 100), 6.0 * 1440.0 + 12.0 * 8.0 * 8.0);  // (15 + 1) / 2 keys
}

TEST(Memory, StatesAndRecomputeScaleAsTheyShould) {
  const Config adamw = tiny();
  const Config sgd = tiny({"optim.name=sgd"});
  const Config momentum = tiny({"optim.name=sgd", "optim.momentum=0.9"});
  const auto plan = [](const Config& config) { return memory_plan(config, resolve_layout(config, 1), 100); };
  EXPECT_EQ(plan(adamw).weights, 4 * model_size(adamw, 100).total());
  EXPECT_EQ(plan(adamw).optimizer, 2 * plan(adamw).weights);
  EXPECT_EQ(plan(momentum).optimizer, plan(adamw).weights);
  EXPECT_EQ(plan(sgd).optimizer, 0);
  EXPECT_LT(plan(tiny({"train.recompute=layer", "model.layers=16"})).activations,
            plan(tiny({"model.layers=16"})).activations / 3);
}

TEST(Memory, MixedPrecisionTakesEighteenBytesPerParameter) {
  const Config config = tiny();
  const MemoryPlan plan = memory_plan(config, resolve_layout(config, 1), 100, kMixedPrecision);
  EXPECT_EQ(plan.weights + plan.gradients + plan.optimizer, 18 * model_size(config, 100).total());
}

// Bytes per element of the model, by hand for four ranks that share everything evenly.
TEST(Memory, StatesOfTheZeroStages) {
  const auto states = [](const std::vector<std::string>& overrides) {
    std::vector<std::string> all = overrides;
    all.insert(all.end(), {"parallel.data=4", "model.layers=4", "model.tie_embeddings=false"});
    const Config config = tiny(all);
    return memory_plan(config, resolve_layout(config, 4), 100);
  };
  const Config config = tiny({"model.layers=4", "model.tie_embeddings=false"});
  const int64_t p = model_size(config, 100).total();
  const int64_t layer = (model_size(config, 100).attention + model_size(config, 100).mlp) / 4 + 2 * 128;
  const MemoryPlan one = states({"parallel.zero=1"});
  EXPECT_EQ(one.weights + one.gradients, 8 * p);
  EXPECT_NEAR(static_cast<double>(one.optimizer), 2.0 * static_cast<double>(p), 2048.0);  // 8 / 4, rounded to 16 floats
  const MemoryPlan two = states({"parallel.zero=2"});
  EXPECT_EQ(two.weights, 4 * p);
  EXPECT_NEAR(static_cast<double>(two.gradients), static_cast<double>(p + 4 * (100 * 128 + layer)), 2048.0);
  const MemoryPlan three = states({"parallel.zero=3"});
  EXPECT_EQ(three.moment, std::string("mlp backward"));
  // A quarter, plus the two ends and two layers.
  EXPECT_NEAR(static_cast<double>(three.weights), static_cast<double>(p + 4 * (2 * 100 * 128 + 128 + 2 * layer)),
              2048.0);
}

// Activations lie on context x tensor ranks: what is kept shrinks with both (sequence parallel).
TEST(Memory, ActivationsShrinkWithContextAndTensor) {
  const auto plan = [](int64_t ranks, const std::vector<std::string>& overrides) {
    std::vector<std::string> all = overrides;
    all.insert(all.end(), {"data.sequence=4096", "train.micro_batch=1", "model.heads=8", "model.layers=16"});
    const Config config = tiny(all);
    return memory_plan(config, resolve_layout(config, ranks), 100);
  };
  const auto alone = static_cast<double>(plan(1, {}).activations);
  EXPECT_EQ(plan(4, {"parallel.ring=4"}).activations, plan(1, {}).activations / 4);
  EXPECT_EQ(plan(1, {}).exchange, 0);
  EXPECT_NEAR(static_cast<double>(plan(4, {"parallel.tensor=4"}).activations), alone / 4.0, 0.03 * alone);
  EXPECT_NEAR(static_cast<double>(plan(8, {"parallel.tensor=2", "parallel.ring=4"}).activations), alone / 8.0,
              0.03 * alone);
}

TEST(VisiblePairs, EqualACountInEveryOrder) {
  for (const char* order : {"contiguous", "zigzag", "striped"}) {
    for (const char* mask : {"causal", "causal and window(9,0)", "window(9,0)"}) {
      const Config config = tiny({"data.sequence=97", "parallel.ring=4", std::string("parallel.order=") + order,
                                  std::string("attention.mask=") + mask});
      const RunLayout layout = resolve_layout(config, 4);
      const auto exact = visible_pairs(sequence_layout(config, layout), {}, config.attention.mask.window_left);
      const PairCount count = visible_pairs(config, layout, /*all_owners=*/false);
      if (!config.attention.mask.causal) continue;
      EXPECT_DOUBLE_EQ(count.most, static_cast<double>(*std::max_element(exact.begin(), exact.end()))) << order << mask;
      const auto sum = static_cast<double>(std::accumulate(exact.begin(), exact.end(), int64_t{0}));
      EXPECT_NEAR(count.mean, sum / 4.0, 1e-9) << order << mask;
    }
  }
}

TEST(Traffic, RingAndGradientsByHand) {
  const Config config = tiny({"data.sequence=64", "train.batch=2 samples", "train.micro_batch=1", "parallel.ring=2",
                              "model.layers=3", "data.pack=concat"});
  const TrafficPlan plan = traffic_plan(config, resolve_layout(config, 2), 100);
  // Two passes, three layers, block = keys and values of 32 tokens, width 128, fp32: forward 1 hop, backward 1 hop of
  // the block again and 2 hops of its gradients.
  EXPECT_EQ(plan.keys, 2 * 3 * (2 * 32 * 128 * 4) * 4);
  EXPECT_EQ(plan.gradients, model_size(config, 100).total() * 4);  // 2 (R - 1) / R = 1
  const Config one = tiny();
  EXPECT_EQ(traffic_plan(one, resolve_layout(one, 1), 100).total(), 0);
}

TEST(Plan, RefusesWhatDoesNotFitWithTheCure) {
  try {
    make_plan(tiny(), 1, 1 << 20, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_NE(std::string(error.what()).find("0.00 GiB are allowed; use train.recompute"), std::string::npos);
  }
}

TEST(Plan, ProblemsOfDataAndLayoutComeTogether) {
  DatasetFacts facts;
  facts.problems = {"lm.toml:1:1: error: bad data"};
  try {
    make_plan(tiny({"parallel.ring=2"}), 3, 0, facts);
    FAIL();
  } catch (const Error& error) {
    const std::string found = error.what();
    EXPECT_NE(found.find("bad data\n"), std::string::npos);
    EXPECT_NE(found.find("parallel.ring = 2 does not divide 3 ranks"), std::string::npos);
  }
}

TEST(Plan, MissingDatasetIsANote) {
  const DatasetFacts facts = dataset_facts(tiny());
  EXPECT_FALSE(facts.present);
  EXPECT_TRUE(facts.problems.empty());
  ASSERT_EQ(facts.notes.size(), 1U);
  EXPECT_NE(facts.notes[0].find("none.h5 does not exist yet"), std::string::npos);
}

TEST(Plan, FileThatIsNoDatasetIsAProblem) {
  const Config config = parse_config("data.train = ['CMakeLists.txt']\n", "lm.toml");
  const DatasetFacts facts = dataset_facts(config);
  ASSERT_EQ(facts.problems.size(), 1U);
  EXPECT_EQ(facts.problems[0].find("lm.toml:1:14: error: "), 0U) << facts.problems[0];
}

TEST(Plan, EveryExampleIsAccepted) {
  int examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator("launch/examples")) {
    if (entry.path().extension() != ".toml") continue;
    ++examples;
    const Config config = load_config(entry.path().string());
    if (config.task.kind == TaskKind::forecast) {
      EXPECT_NE(plan_forecast(config, 1, 0, /*json=*/false).find("parameters"), std::string::npos);
      EXPECT_NE(plan_forecast(config, 1, 0, /*json=*/true).find("\"memory_bytes\""), std::string::npos);
      continue;
    }
    const Plan plan = make_plan(config, std::max<int64_t>(1, config.parallel.data) * config.parallel.ring, 0, {});
    EXPECT_GT(plan.size.total(), 0) << entry.path();
    EXPECT_NE(plan_text(config, plan).find("parameters"), std::string::npos);
    EXPECT_NE(plan_json(config, plan).find("\"per_token\""), std::string::npos);
  }
  EXPECT_GE(examples, 4);
}

}  // namespace
}  // namespace farsight
