// SPDX-License-Identifier: Apache-2.0
// The first promise: one configuration gives the same numbers in every layout.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/library.h"
#include "tests/parity/layouts.h"
#include "tests/parity/parity_case.h"
#include "tests/sanitized.h"

namespace farsight {
namespace {

// All of them only when asked for (the slow run); a sanitizer needs each piece of code once.
std::vector<Layout> layouts() {
  std::vector<Layout> chosen = all_layouts();
  const bool all = std::getenv("FARSIGHT_ALL_LAYOUTS") != nullptr;
  const std::set<std::string> sanitized{"dp2m2", "tp2sp.r2u2s", "dp2z3.tp2sp", "ag2/1", "u3"};
  if (kSanitized) {
    std::erase_if(chosen, [&](const Layout& layout) { return !sanitized.contains(layout.name); });
  } else if (!all) {
    std::erase_if(chosen, [](const Layout& layout) { return !layout.quick; });
  }
  return chosen;
}

// One of each kind with the rich set of features, few with the others: the emulated device is slow. All 47 when asked
// for, which takes a GPU.
std::vector<Layout> device_layouts(bool rich) {
  std::vector<Layout> chosen{{"1", 1, {}}};
  if (kSanitized) return chosen;
  std::set<std::string> some{"tp2sp", "r2s"};
  if (rich) some.insert({"dp2z2", "ag2/1", "u2", "dp2z3.tp2sp"});
  for (const Layout& layout : all_layouts()) {
    if (some.contains(layout.name) || std::getenv("FARSIGHT_ALL_LAYOUTS") != nullptr) chosen.push_back(layout);
  }
  return chosen;
}

// Every collective, and stations of the gradients that follow each other.
std::set<std::string> nccl_layouts() {
  if (kSanitized) return {"r2s"};
  return {"tp2sp", "r2s", "u2", "dp4z1g2", "dp2z3.tp2sp"};
}

bool emulated() {
  CudaDeviceInfo info{};
  return cuda_library().table->device_info(0, &info) == 0 &&
         std::string(info.name).find("emulated") != std::string::npos;
}

std::string tiny(const std::string& sequence, const std::string& more) {
  return "[data]\ntrain = [\"x.h5\"]\nsequence = " + sequence +
         "\n[model]\nlayers = 2\nwidth = 64\nheads = 8\nmlp_width = 96\n[train]\nbatch = \"12 samples\"\nsteps = \"20 "
         "steps\"\n"
         "[parallel]\nbucket = \"64KiB\"\n[optim]\nlr = 1e-3\nschedule = \"constant\"\n" +
         more;
}

// F0: causal multi-head attention, one document per row.
const std::string kPlain = "[data]\npack = \"concat\"\n";
// F1: grouped heads, window, documents, ALiBi, both dropouts, smoothing, qk-norm, tied embeddings.
const std::string kRich =
    "[data]\npack = \"documents\"\n[model]\nkv_heads = 2\ndropout = 0.1\ntie_embeddings = true\n[attention]\nmask = "
    "\"causal and "
    "window(20,0)\"\nbias = \"alibi\"\nposition = \"none\"\ndropout = 0.1\nqk_norm = \"rms\"\n[train]\nlabel_smoothing "
    "= 0.1\n";
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

// Ulysses over three ranks deals out whole groups of query heads, so grouped heads do not divide.
std::vector<std::string> with_more(const Layout& layout) {
  std::vector<std::string> overrides = layout.overrides;
  if (std::string(layout.name) == "u3") overrides.push_back("model.kv_heads=8");
  return overrides;
}

void expect_parity(const std::string& config, const DatasetFiles& files, int64_t steps) {
  std::map<bool, LayoutRun> references;  // with all key heads
  std::printf("%-16s %-9s %-9s %-9s %-9s\n", "layout", "loss 1", "gradient", "norm", "losses");
  for (const auto& layout : layouts()) {
    const auto overrides = with_more(layout);
    const bool changed = overrides != layout.overrides;
    if (!references.contains(changed)) {
      references[changed] = run_in_layout(
          config, changed ? std::vector<std::string>{overrides.back()} : std::vector<std::string>{}, 1, files, steps);
      EXPECT_LT(references[changed].losses.back(), references[changed].losses.front());
    }
    const LayoutRun run = run_in_layout(config, overrides, layout.ranks, files, steps);
    const Agreement agreement = compare(run, references[changed]);
    std::printf("%-16s %.2e  %.2e  %.2e  %.2e  (%s)\n", layout.name, agreement.first_loss, agreement.worst_gradient,
                agreement.worst_norm, agreement.last_loss, agreement.gradient_tensor.c_str());
    EXPECT_TRUE(agreement.same_initial) << layout.name << ": " << agreement.initial_tensor;
    EXPECT_TRUE(agreement.same_samples) << layout.name;
    EXPECT_LE(agreement.first_loss, 1e-6) << layout.name;
    EXPECT_LE(agreement.worst_gradient, 1e-5) << layout.name << " in " << agreement.gradient_tensor;
    EXPECT_LE(agreement.worst_norm, 1e-6) << layout.name;
    EXPECT_LE(agreement.last_loss, 1e-4) << layout.name;
  }
}

class Parity : public testing::TestWithParam<std::pair<const char*, std::string>> {};

TEST_P(Parity, EveryLayoutEqualsOneRank) {
  expect_parity(merged(GetParam().second), generated_files(), kSanitized ? 4 : 20);
}

void expect_device_parity(const std::string& config, const std::vector<Layout>& chosen, int64_t steps, int64_t samples,
                          RunsOn place) {
  const auto files = generated_files();
  const std::vector<std::string> smaller{"train.batch=" + std::to_string(samples) + " samples", "train.micro_batch=3",
                                         "data.sequence=40"};
  const LayoutRun cpu = run_in_layout(config, smaller, 1, files, steps);
  std::printf("%-16s %-9s %-9s %-9s %-9s\n", "on a device", "loss 1", "gradient", "norm", "losses");
  for (const Layout& layout : chosen) {
    std::vector<std::string> overrides = smaller;
    overrides.insert(overrides.end(), layout.overrides.begin(), layout.overrides.end());
    const LayoutRun cuda = run_in_layout(config, overrides, layout.ranks, files, steps, place);
    const Agreement agreement = compare(cuda, cpu);
    std::printf("%-16s %.2e  %.2e  %.2e  %.2e  (%s)\n", layout.name, agreement.first_loss, agreement.worst_gradient,
                agreement.worst_norm, agreement.last_loss, agreement.gradient_tensor.c_str());
    EXPECT_TRUE(agreement.same_initial) << layout.name << ": " << agreement.initial_tensor;
    EXPECT_TRUE(agreement.same_samples) << layout.name;
    EXPECT_LE(agreement.first_loss, 1e-6) << layout.name;
    EXPECT_LE(agreement.worst_gradient, 1e-5) << layout.name << " in " << agreement.gradient_tensor;
    EXPECT_LE(agreement.worst_norm, 1e-6) << layout.name;
    EXPECT_LE(agreement.last_loss, 1e-5) << layout.name;
  }
}

// Ranks on a CUDA device, the emulated one where there is no GPU, against one on the CPU: data, accumulation, clip and
// optimizer included. Several ranks share the device and exchange through host memory.
TEST_P(Parity, ADeviceEqualsTheCpu) {
  if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
  const bool rich = std::string(GetParam().first) == "rich";
  if (kSanitized && !rich) return;  // device_model_test runs the rest of the code
  expect_device_parity(merged(GetParam().second), device_layouts(rich), !kSanitized && rich ? 2 : 1, /*samples=*/6,
                       RunsOn::device_staged);
}

// The same through NCCL, for the configuration with the most features.
TEST_P(Parity, DevicesWithNcclEqualTheCpu) {
  if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
  if (!emulated()) GTEST_SKIP() << "NCCL refuses ranks that share a device";
  if (std::string(GetParam().first) != "rich") return;
  std::vector<Layout> chosen;
  for (const Layout& layout : all_layouts()) {
    if (nccl_layouts().contains(layout.name) || std::getenv("FARSIGHT_ALL_LAYOUTS") != nullptr)
      chosen.push_back(layout);
  }
  expect_device_parity(merged(GetParam().second), chosen, kSanitized ? 1 : 2, /*samples=*/12, RunsOn::device_nccl);
}

INSTANTIATE_TEST_SUITE_P(Features, Parity,
                         testing::Values(std::pair{"plain", tiny("96", kPlain)}, std::pair{"rich", tiny("97", kRich)},
                                         std::pair{"gpt", tiny("96", kGpt)},
                                         std::pair{"additive", tiny("97", kAdditive)}),
                         [](const auto& info) { return info.param.first; });

TEST(Repeatability, SameLayoutTwiceIsBitIdentical) {
  const auto files = generated_files();
  const std::string config = merged(tiny("97", kRich));
  const auto once = run_in_layout(config, {"parallel.data=2", "parallel.ring=2"}, 4, files, 6);
  const auto again = run_in_layout(config, {"parallel.data=2", "parallel.ring=2"}, 4, files, 6);
  EXPECT_EQ(once.losses, again.losses);
  EXPECT_EQ(once.gradients, again.gradients);
  EXPECT_EQ(once.weights, again.weights);
}

// Layers of one model cross the ranks in different ways.
TEST(Override, MixedSchemesKeepTheNumbers) {
  const auto files = generated_files();
  const std::string config = merged(tiny("97", kRich));
  const auto reference = run_in_layout(config, {}, 1, files, 6);
  const std::vector<std::string> grid{"parallel.ring=2", "parallel.ulysses=2"};
  for (const char* schemes : {R"([{layers="0",context="ring"},{layers="1",context="allgather"}])",
                              R"([{layers="0..1",context="auto"},{layers=1,context="ulysses"}])"}) {
    auto overrides = grid;
    overrides.push_back(std::string("parallel.override=") + schemes);
    const Agreement agreement = compare(run_in_layout(config, overrides, 4, files, 6), reference);
    EXPECT_LE(agreement.first_loss, 1e-6) << schemes;
    EXPECT_LE(agreement.worst_gradient, 1e-5) << schemes << " " << agreement.gradient_tensor;
    EXPECT_LE(agreement.last_loss, 1e-4) << schemes;
  }
}

// Rungs of the memory ladder change rounding at most, in sharded layouts too.
TEST(TiledMlp, KeepsTheNumbers) {
  const auto files = generated_files();
  const std::string config = merged(tiny("97", kGpt));
  const auto reference = run_in_layout(config, {}, 1, files, 6);
  for (const auto& layout :
       {std::vector<std::string>{}, {"parallel.tensor=2"}, {"parallel.tensor=2", "parallel.zero=3"}}) {
    auto overrides = layout;
    overrides.push_back("train.mlp_chunk=50");
    const Agreement agreement = compare(run_in_layout(config, overrides, layout.empty() ? 1 : 2, files, 6), reference);
    EXPECT_LE(agreement.first_loss, 1e-6);
    EXPECT_LE(agreement.worst_gradient, 1e-5) << agreement.gradient_tensor;
    EXPECT_LE(agreement.last_loss, 1e-4);
  }
}

// The same on a device, where parked values travel.
TEST(Recompute, ChangesNoBitOnADevice) {
  if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
  const auto files = generated_files();
  const std::string config = merged(tiny("40", kRich));
  const std::vector<std::string> small{"model.layers=6", "train.batch=2 samples", "train.micro_batch=1"};
  const auto kept = run_in_layout(config, small, 1, files, 2, RunsOn::device_staged);
  auto again = small;
  again.insert(again.end(), {"train.recompute=layer", "train.offload=activations"});
  const auto recomputed = run_in_layout(config, again, 1, files, 2, RunsOn::device_staged);
  EXPECT_EQ(kept.losses, recomputed.losses);
  EXPECT_EQ(kept.weights, recomputed.weights);
}

TEST(Recompute, ChangesNoBit) {
  const auto files = generated_files();
  const std::string config = merged(tiny("97", kRich));
  for (const auto& layout : {std::vector<std::string>{"parallel.ring=2"},
                             {"parallel.tensor=2"},
                             {"parallel.ring=2", "parallel.context=allgather", "parallel.gather_heads=1"},
                             {"parallel.ulysses=2", "parallel.zero=3"}}) {
    const auto kept = run_in_layout(config, layout, 2, files, 4);
    for (const char* rung : {"layer", "attn"}) {
      auto again = layout;
      again.insert(again.end(), {std::string("train.recompute=") + rung, "train.offload=activations"});
      const auto recomputed = run_in_layout(config, again, 2, files, 4);
      EXPECT_EQ(kept.losses, recomputed.losses) << layout.front();
      EXPECT_EQ(kept.weights, recomputed.weights) << layout.front();
    }
  }
}

}  // namespace
}  // namespace farsight
