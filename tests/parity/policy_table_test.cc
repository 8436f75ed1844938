// SPDX-License-Identifier: Apache-2.0
// T9: every cell of policies x ways of sharing either gives the numbers of one rank or is refused by name, and every
// rule refuses what it says.
#include "trainer/policy_table.h"

#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/parity/parity_case.h"
#include "trainer/model_placement.h"

namespace farsight {
namespace {

const char* const kBase =
    "[data]\ntrain = [\"x.h5\"]\nsequence = 61\npack = \"concat\"\n[model]\nlayers = 1\nwidth = 32\nheads = 4\n"
    "mlp_width = 48\n[attention]\nposition = \"rope\"\n[train]\nbatch = \"4 samples\"\n[optim]\nlr = 1e-3\n";

struct Cell {
  Sharing sharing;
  std::vector<std::string> layout;
  int ranks;
};

std::vector<Cell> cells() {
  return {{Sharing::ring, {"parallel.ring=3"}, 3},
          {Sharing::all_gather, {"parallel.ring=2", "parallel.context=allgather", "parallel.gather_heads=1"}, 2},
          {Sharing::ulysses, {"parallel.ulysses=2"}, 2},
          {Sharing::tensor, {"parallel.tensor=2"}, 2}};
}

// "a.b=c and d e.f=g": settings are separated by blanks before a key with a point and an equals sign.
std::vector<std::string> settings_of(const AttentionPolicy& policy) {
  std::vector<std::string> settings;
  std::istringstream words(policy.settings);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const bool key = equals != std::string::npos && word.find('.') < equals;
    if (key) settings.push_back(word);
    if (!key) settings.back() += " " + word;
  }
  return settings;
}

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(PolicyTable, EveryCellIsExactOrRefused) {
  DatasetFiles files;
  files.train = {probe_corpus(generated_corpus())};
  for (const AttentionPolicy& policy : attention_policies()) {
    const auto settings = settings_of(policy);
    const Config config = parse_config(kBase, "cell.toml", settings);
    ASSERT_TRUE(policy.used(config)) << policy.name << " is not what its settings switch on";
    const LayoutRun reference = run_in_layout(kBase, settings, 1, files, 2);
    for (const Cell& cell : cells()) {
      const std::string where = std::string(policy.name) + " under " + to_string(cell.sharing);
      const auto overrides = joined(settings, cell.layout);
      if (!policy.allows(cell.sharing)) {
        EXPECT_THROW(parse_config(kBase, "cell.toml", overrides), Error) << where;
        continue;
      }
      const auto used = sharings_of(parse_config(kBase, "cell.toml", overrides));
      EXPECT_EQ(used, std::vector<Sharing>{cell.sharing}) << where;
      const Agreement agreement = compare(run_in_layout(kBase, overrides, cell.ranks, files, 2), reference);
      EXPECT_LE(agreement.first_loss, 1e-6) << where;
      EXPECT_LE(agreement.worst_gradient, 1e-5) << where << " in " << agreement.gradient_tensor;
      EXPECT_LE(agreement.last_loss, 1e-4) << where;
    }
  }
}

struct Broken {
  const char* code;
  std::vector<std::string> settings;
};

TEST(PolicyTable, EveryRuleRefusesWithItsCode) {
  const std::vector<Broken> broken{
      {"TP-HEADS", {"parallel.tensor=8"}},
      {"TP-KV-HEADS", {"model.heads=16", "model.kv_heads=4", "parallel.tensor=6"}},
      {"TP-MLP-WIDTH", {"model.heads=16", "model.width=32", "model.mlp_width=3", "parallel.tensor=4"}},
      {"CP-ULYSSES-HEADS", {"parallel.tensor=2", "parallel.ulysses=4"}},
      {"CP-ULYSSES-HEADS", {"parallel.ring=8", "parallel.context=ulysses"}},
      {"CP-ULYSSES-HEADS",
       {"model.heads=6", "model.kv_heads=3", "model.width=48", "parallel.tensor=2", "parallel.ulysses=3"}},
      {"CP-ULYSSES-HEADS", {"parallel.ring=8", "parallel.override=[{layers=\"0\",context=\"ulysses\"}]"}},
  };
  std::set<std::string> seen;
  for (const Broken& b : broken) {
    try {
      parse_config(kBase, "rule.toml", b.settings);
      ADD_FAILURE() << b.code << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
      EXPECT_NE(std::string(error.what()).find("[" + std::string(b.code) + "]"), std::string::npos) << error.what();
      seen.insert(b.code);
    }
  }
  for (const LayoutRule& rule : layout_rules()) EXPECT_TRUE(seen.contains(rule.code)) << rule.code << " has no test";
}

// The rules allow everything that the dealing of heads can do.
TEST(PolicyTable, RulesAgreeWithTheDealingOfHeads) {
  for (int64_t kv_heads = 1; kv_heads <= 8; ++kv_heads) {
    for (int64_t group = 1; group <= 4; ++group) {
      for (int64_t tensor = 1; tensor <= 36; ++tensor) {
        Config config;
        config.model.heads = kv_heads * group;
        config.model.kv_heads = kv_heads;
        config.model.mlp_width = 1000;
        config.parallel.tensor = tensor;
        bool dealt = true;
        try {
          const TensorHeads heads = tensor_heads(kv_heads * group, kv_heads, tensor);
          for (const int64_t h : heads.query) EXPECT_GE(h, 1);
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), ErrorKind::config);
          dealt = false;
        }
        EXPECT_EQ(refusals(config).empty(), dealt) << config.model.heads << "/" << kv_heads << " over " << tensor;
      }
    }
  }
}

}  // namespace
}  // namespace farsight
