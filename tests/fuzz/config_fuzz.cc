// SPDX-License-Identifier: Apache-2.0
// Feeds the configuration reader with damaged and random texts: it must answer with a configuration that reads back
// equal, or with Error{config} whose every line names a place; nothing else.
//
//   config_fuzz [--seed FIRST] [--count N]      --count 0 runs until it is stopped
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "kernels/error.h"
#include "tests/fuzz/fuzz_driver.h"
#include "trainer/config.h"
#include "trainer/config_registry.h"

namespace {

using farsight::Config;
using farsight::ConfigKey;
using Random = std::mt19937_64;

size_t below(Random& random, size_t n) { return static_cast<size_t>(random() % n); }

std::string random_value(Random& random, const ConfigKey& key) {
  const std::vector<std::string> others{"0",
                                        "-1",
                                        "1",
                                        "2",
                                        "64",
                                        "1e400",
                                        "nan",
                                        "inf",
                                        "-inf",
                                        "9223372036854775807",
                                        "1e-9",
                                        "true",
                                        "\"\"",
                                        "\"auto\"",
                                        "[]",
                                        "[1, [2]]",
                                        "{a = 1}",
                                        "\"5 steps\"",
                                        "\"1e\"",
                                        "\"9007199254740993 tokens\"",
                                        "\"window(1,1) and causal\"",
                                        "\"${HOME}\"",
                                        "\"${\"",
                                        "2020-01-01",
                                        "'x'",
                                        "\"100TiB\"",
                                        "\"1e10s\""};
  if (below(random, 3) == 0) return key.example;
  if (!key.allowed.empty() && below(random, 2) == 0)
    return "\"" + key.allowed[below(random, key.allowed.size())] + "\"";
  return others[below(random, others.size())];
}

std::string random_text(Random& random) {
  std::string text = below(random, 8) == 0 ? "" : "data.train = ['c.h5']\n";
  const auto& keys = farsight::config_keys();
  for (size_t n = below(random, 12); n > 0; --n) {
    const ConfigKey& key = keys[below(random, keys.size())];
    text += key.name + " = " + random_value(random, key) + "\n";
  }
  return text;
}

void damage(Random& random, std::string& text) {
  for (size_t n = below(random, 6); n > 0 && !text.empty(); --n) {
    const size_t at = below(random, text.size());
    switch (below(random, 4)) {
      case 0:
        text[at] = static_cast<char>(random() & 0xffU);
        break;
      case 1:
        text.erase(at, 1 + below(random, 8));
        break;
      case 2:
        text.insert(at, text.substr(below(random, text.size()), below(random, 40)));
        break;
      default:
        text.insert(at, 1 + below(random, 300), "[{\"\n.=,"[below(random, 8)]);
    }
  }
}

bool every_line_is_placed(std::string_view message) {
  while (!message.empty()) {
    const size_t end = message.find('\n');
    const std::string_view line = message.substr(0, end);
    const bool placed = line.find(": error: ") != std::string_view::npos;
    // A value quoted in a message may hold line breaks only in escaped form.
    if (!placed) return false;
    message = end == std::string_view::npos ? "" : message.substr(end + 1);
  }
  return true;
}

std::string check(const std::string& text, const std::vector<std::string>& overrides) {
  try {
    const Config config = farsight::parse_config(text, "fuzz.toml", overrides);
    const std::string effective = farsight::to_toml(config);
    if (!(farsight::parse_config(effective, "fuzz.toml") == config)) return "does not read back equal:\n" + effective;
    for (const int64_t ranks : {1, 2, 6}) {
      try {
        const farsight::RunLayout layout = farsight::resolve_layout(config, ranks);
        if (layout.data * layout.context() * layout.tensor != ranks) return "layout does not use all ranks";
        if (layout.data * layout.passes * layout.micro_batch != config.train.batch_samples) return "batch is lost";
      } catch (const farsight::Error& error) {
        if (!every_line_is_placed(error.what())) return error.what();
      }
    }
  } catch (const farsight::Error& error) {
    if (error.kind() != farsight::ErrorKind::config) return fmt::format("wrong kind: {}", error.what());
    if (!every_line_is_placed(error.what())) return fmt::format("a line without a place: {}", error.what());
  } catch (const std::exception& error) {
    return fmt::format("foreign exception: {}", error.what());
  }
  return "";
}

std::string check_seed(uint64_t seed) {
  Random random(seed);
  std::string text = random_text(random);
  if (below(random, 2) == 0) damage(random, text);
  std::vector<std::string> overrides;
  if (below(random, 3) == 0) {
    std::string extra = random_text(random);
    damage(random, extra);
    overrides.push_back(extra.substr(0, extra.find('\n')));
  }
  std::string wrong = check(text, overrides);
  if (wrong.empty()) return wrong;
  wrong += "\ntext:\n" + text;
  for (const std::string& assignment : overrides) wrong += "\noverride: " + assignment;
  return wrong;
}

}  // namespace

int main(int argc, char** argv) { return farsight::run_fuzz("config_fuzz", argc, argv, check_seed); }
