// SPDX-License-Identifier: Apache-2.0
// The first promise: one configuration gives the same numbers in every layout.
#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/parity/parity_case.h"
#include "tests/sanitized.h"

namespace farsight {
namespace {

struct Layout {
  const char* name;
  int ranks;
  std::vector<std::string> overrides;
};

// c, z, s: contiguous, zigzag, striped.
const std::vector<Layout>& all_layouts() {
  static const std::vector<Layout> all{
      {"dp2", 2, {"parallel.data=2"}},
      {"dp3", 3, {"parallel.data=3"}},
      {"dp2m2", 2, {"parallel.data=2", "train.micro_batch=3"}},
      {"dp1m4", 1, {"train.micro_batch=3"}},
      {"r2c", 2, {"parallel.ring=2", "parallel.order=contiguous"}},
      {"r2z", 2, {"parallel.ring=2", "parallel.order=zigzag"}},
      {"r2s", 2, {"parallel.ring=2", "parallel.order=striped"}},
      {"r3c", 3, {"parallel.ring=3", "parallel.order=contiguous"}},
      {"r3z", 3, {"parallel.ring=3", "parallel.order=zigzag"}},
      {"r3s", 3, {"parallel.ring=3", "parallel.order=striped"}},
      {"r4c", 4, {"parallel.ring=4", "parallel.order=contiguous"}},
      {"r4z", 4, {"parallel.ring=4", "parallel.order=zigzag"}},
      {"r4s", 4, {"parallel.ring=4", "parallel.order=striped", "parallel.stripe=5"}},
      {"dp2.r2z", 4, {"parallel.data=2", "parallel.ring=2", "parallel.order=zigzag"}},
      {"dp2.r2s", 4, {"parallel.data=2", "parallel.ring=2", "parallel.order=striped"}},
  };
  return all;
}

// A sanitizer needs each piece of code once, not each layout.
std::vector<Layout> layouts() {
  std::vector<Layout> chosen = all_layouts();
  if (kSanitized) {
    const std::set<std::string> enough{"dp2m2", "r3c", "r3z", "r4s", "dp2.r2z"};
    std::erase_if(chosen, [&](const Layout& layout) { return !enough.contains(layout.name); });
  }
  return chosen;
}

std::string tiny(const std::string& sequence, const std::string& more) {
  return "[data]\ntrain = [\"x.h5\"]\nsequence = " + sequence +
         "\n[model]\nlayers = 2\nwidth = 64\nheads = 8\nmlp_width = 96\n[train]\nbatch = \"12 samples\"\nsteps = \"20 "
         "steps\"\n"
         "[optim]\nlr = 1e-3\nschedule = \"constant\"\n" +
         more;
}

// F0: causal multi-head attention, one document per row.
const std::string kPlain = "[data]\npack = \"concat\"\n";
// F1: grouped heads, window, documents, ALiBi, both dropouts, tied embeddings.
const std::string kRich =
    "[data]\npack = \"documents\"\n[model]\nkv_heads = 2\ndropout = 0.1\ntie_embeddings = true\n[attention]\nmask = "
    "\"causal and "
    "window(20,0)\"\nbias = \"alibi\"\nposition = \"none\"\ndropout = 0.1\n";
// GPT-2 style with an entropy loss and recomputed layers.
const std::string kGpt =
    "[data]\npack = \"concat\"\n[model]\nmlp = \"gelu\"\nnorm = \"layer\"\nbias = true\ndropout = 0.1\ntie_embeddings "
    "= "
    "false\n[attention]\nposition = \"learned\"\nentropy_weight = 0.1\ndropout = 0.1\n[train]\nrecompute = \"layer\"\n";
// Bahdanau's score through the same ring code.
const std::string kAdditive =
    "[data]\npack = \"documents\"\n[attention]\nscore = \"additive\"\nposition = \"learned\"\n";

// Sections may not be repeated in TOML: merges the keys of equal sections.
std::string merged(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> sections;
  std::string current;
  std::string line;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.starts_with("[")) {
      current = line;
      continue;
    }
    auto found = std::find_if(sections.begin(), sections.end(), [&](const auto& s) { return s.first == current; });
    if (found == sections.end()) found = sections.insert(sections.end(), {current, ""});
    found->second += line + "\n";
  }
  std::string out;
  for (const auto& [name, body] : sections) out += name + "\n" + body;
  return out;
}

DatasetFiles generated_files() {
  DatasetFiles files;
  files.train = {probe_corpus(generated_corpus())};
  return files;
}

void expect_parity(const std::string& config, const DatasetFiles& files, int64_t steps) {
  const ParityRun reference = run_layout(config, {}, 1, files, steps);
  EXPECT_LT(reference.losses.back(), reference.losses.front());
  std::printf("%-8s  %-10s %-10s %-10s\n", "layout", "loss 1", "gradient", "all losses");
  for (const auto& layout : layouts()) {
    const ParityRun run = run_layout(config, layout.overrides, layout.ranks, files, steps);
    const Agreement agreement = compare(run, reference);
    std::printf("%-8s  %.2e   %.2e   %.2e  (%s)\n", layout.name, agreement.first_loss, agreement.worst_gradient,
                agreement.last_loss, agreement.worst_tensor.c_str());
    EXPECT_TRUE(agreement.same_initial) << layout.name;
    EXPECT_LE(agreement.first_loss, 1e-6) << layout.name;
    EXPECT_LE(agreement.worst_gradient, 1e-5) << layout.name << " in " << agreement.worst_tensor;
    EXPECT_LE(agreement.last_loss, 1e-4) << layout.name;
    EXPECT_EQ(run.samples, reference.samples) << layout.name;
  }
}

class Parity : public testing::TestWithParam<std::pair<const char*, std::string>> {};

TEST_P(Parity, EveryLayoutEqualsOneRank) {
  expect_parity(merged(GetParam().second), generated_files(), kSanitized ? 8 : 20);
}

INSTANTIATE_TEST_SUITE_P(Features, Parity,
                         testing::Values(std::pair{"plain", tiny("96", kPlain)}, std::pair{"rich", tiny("97", kRich)},
                                         std::pair{"gpt", tiny("96", kGpt)},
                                         std::pair{"additive", tiny("97", kAdditive)}),
                         [](const auto& info) { return info.param.first; });

TEST(Repeatability, SameLayoutTwiceIsBitIdentical) {
  const auto files = generated_files();
  const std::string config = merged(tiny("97", kRich));
  const auto once = run_layout(config, {"parallel.data=2", "parallel.ring=2"}, 4, files, 6);
  const auto again = run_layout(config, {"parallel.data=2", "parallel.ring=2"}, 4, files, 6);
  EXPECT_EQ(once.losses, again.losses);
  EXPECT_EQ(once.gradients, again.gradients);
  EXPECT_EQ(once.weights, again.weights);
}

TEST(Recompute, ChangesNoBit) {
  const auto files = generated_files();
  const std::string config = merged(tiny("97", kRich));
  const auto kept = run_layout(config, {"parallel.ring=2"}, 2, files, 4);
  const auto recomputed = run_layout(config, {"parallel.ring=2", "train.recompute=layer"}, 2, files, 4);
  EXPECT_EQ(kept.losses, recomputed.losses);
  EXPECT_EQ(kept.weights, recomputed.weights);
}

}  // namespace
}  // namespace farsight
