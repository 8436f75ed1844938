// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "trainer/plan_candidates.h"

namespace farsight {
namespace {

// A reason without its numbers, so that equal reasons of many candidates are one.
std::string kind_of(const std::string& reason) {
  std::string kind;
  std::copy_if(reason.begin(), reason.end(), std::back_inserter(kind), [](char c) { return c < '0' || c > '9'; });
  return kind;
}

const char* recompute_name(const Config& config) {
  switch (config.train.recompute) {
    case RecomputeChoice::none:
      return "none";
    case RecomputeChoice::attn:
      return "attn";
    case RecomputeChoice::layer:
      return "layer";
  }
  return "?";
}

// The keys that make a configuration this candidate.
std::string keys_of(const LayoutCandidate& c) {
  const ParallelConfig& p = c.config.parallel;
  std::string text = fmt::format("--parallel.tensor={} --parallel.ulysses={} --parallel.ring={} --parallel.zero={}",
                                 p.tensor, p.ulysses, p.ring, p.zero);
  if (p.tensor > 1 && !p.sequence_parallel) text += " --parallel.sequence_parallel=false";
  return text +
         fmt::format(" --train.recompute={} --train.micro_batch={}", recompute_name(c.config), c.layout.micro_batch);
}

std::string row(const LayoutCandidate& c, const char* mark) {
  return fmt::format("{:<4} {:<58} {:>8.2f} {:>9.1f} {:>9.1f} {:>11.0f} {:>6.1f}\n", mark, candidate_name(c),
                     static_cast<double>(c.memory.total()) / (1 << 30), c.time.exposed * 1e3, c.time.total() * 1e3,
                     c.time.tokens_per_s, 100.0 * c.time.mfu);
}

}  // namespace

std::string candidate_name(const LayoutCandidate& c) {
  const RunLayout& l = c.layout;
  std::string name = fmt::format("data {}", l.data);
  if (l.ring > 1) name += fmt::format(" x ring {} {}", l.ring, to_string(l.order));
  if (l.ulysses > 1) name += fmt::format(" x ulysses {}", l.ulysses);
  if (l.tensor > 1)
    name += fmt::format(" x tensor {}{}", l.tensor, c.config.parallel.sequence_parallel ? "" : " whole");
  if (c.config.parallel.zero > 0) name += fmt::format(", zero {}", c.config.parallel.zero);
  if (c.config.train.recompute != RecomputeChoice::none)
    name += fmt::format(", recompute {}", recompute_name(c.config));
  if (l.micro_batch > 0) name += fmt::format(", micro {}", l.micro_batch);
  return name;
}

std::string candidates_text(const std::vector<LayoutCandidate>& candidates, size_t most) {
  const auto good = static_cast<size_t>(
      std::count_if(candidates.begin(), candidates.end(), [](const LayoutCandidate& c) { return c.rejected.empty(); }));
  std::string text = fmt::format("{:<4} {:<58} {:>8} {:>9} {:>9} {:>11} {:>6}\n", "", "layout", "GiB/rank",
                                 "exposed ms", "step ms", "tokens/s", "MFU %");
  for (size_t i = 0; i < std::min(good, most); ++i) text += row(candidates[i], i == 0 ? "best" : "");
  if (good > most) text += fmt::format("     ... {} more that fit\n", good - most);
  std::set<std::string> told;
  for (size_t i = good; i < candidates.size() && told.size() < most; ++i) {
    if (!told.insert(kind_of(candidates[i].rejected)).second) continue;
    text += fmt::format("no   {}: {}\n", candidate_name(candidates[i]), candidates[i].rejected);
  }
  text += fmt::format("{} candidates, {} fit; MFU counts 6 P_matmul + 12 L H D K, K = keys a query sees\n",
                      candidates.size(), good);
  if (good > 0) text += "best: " + keys_of(candidates.front()) + "\n";
  return text;
}

std::string candidates_json(const std::vector<LayoutCandidate>& candidates, size_t most) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (size_t i = 0; i < std::min(candidates.size(), most); ++i) {
    const LayoutCandidate& c = candidates[i];
    nlohmann::ordered_json entry{
        {"layout", candidate_name(c)},        {"data", c.layout.data},     {"ring", c.layout.ring},
        {"ulysses", c.layout.ulysses},        {"tensor", c.layout.tensor}, {"zero", c.config.parallel.zero},
        {"micro_batch", c.layout.micro_batch}};
    if (c.rejected.empty()) {
      entry["memory_bytes"] = c.memory.total();
      entry["step_s"] = c.time.total();
      entry["exposed_s"] = c.time.exposed;
      entry["tokens_per_s"] = c.time.tokens_per_s;
      entry["mfu"] = c.time.mfu;
    } else {
      entry["rejected"] = c.rejected;
    }
    rows.push_back(std::move(entry));
  }
  return rows.dump(2) + "\n";
}

}  // namespace farsight
