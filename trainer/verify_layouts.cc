// SPDX-License-Identifier: Apache-2.0
#include "trainer/verify_layouts.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/error.h"

namespace farsight {
namespace {

constexpr int64_t kRows = 2;    // samples of a pass
constexpr int64_t kPasses = 2;  // passes of a step

// Through the text, so that every rule of a configuration is applied again.
Config checked(const Config& config) { return parse_config(to_toml(config), "verify"); }

// "verify:12:3: error: REASON" without its place, which is in a file that nobody has.
std::string reason_of(const Error& error) {
  std::string text = error.what();
  text = text.substr(0, text.find('\n'));
  const std::string mark = "error: ";
  const auto at = text.find(mark);
  return at == std::string::npos ? text : text.substr(at + mark.size());
}

std::string refusal_of(Config& config, int64_t ranks) {
  try {
    config = checked(config);
    resolve_layout(config, ranks);
    return {};
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::config) throw;
    return reason_of(error);
  }
}

std::string own_name(const Config& config, int64_t ranks) {
  const RunLayout layout = resolve_layout(config, ranks);
  const ParallelConfig& p = config.parallel;
  std::string text;
  const auto add = [&](const std::string& part, const char* between) { text += (text.empty() ? "" : between) + part; };
  for (const auto& [name, extent] : {std::pair{"data", layout.data},
                                     {"ring", layout.ring},
                                     {"ulysses", layout.ulysses},
                                     {"tensor", layout.tensor}}) {
    if (extent > 1) add(fmt::format("{} {}", name, extent), " x ");
  }
  if (text.empty()) text = "one rank";
  if (layout.ring > 1) add(to_string(layout.order), ", ");
  if (p.context == ContextChoice::allgather) add("allgather", ", ");
  if (!p.overrides.empty()) add("layers with overrides", ", ");
  if (p.tensor > 1 && !p.sequence_parallel) add("no sequence_parallel", ", ");
  if (p.zero > 0) add(fmt::format("zero {}", p.zero), ", ");
  if (layout.passes > 1) add(fmt::format("{} passes", layout.passes), ", ");
  return text;
}

// Axes one at a time.
class Variants {
 public:
  Variants(const Config& config, int64_t ranks, std::vector<VerifyLayout>& out)
      : base_(one_rank(config)), ranks_(ranks), out_(out) {}

  void all() {
    if (base_.train.batch_samples > 1) passes();
    if (ranks_ == 1) return;
    axis("data", "", [](ParallelConfig& p, int64_t n) { p.data = n; });
    for (const auto order : {OrderChoice::contiguous, OrderChoice::zigzag, OrderChoice::striped}) {
      axis("ring", std::string(", ") + to_string(order), [order](ParallelConfig& p, int64_t n) {
        p.ring = n;
        p.order = order;
      });
    }
    axis("ulysses", "", [](ParallelConfig& p, int64_t n) { p.ulysses = n; });
    for (const bool sequence : {true, false}) {
      axis("tensor", sequence ? "" : ", no sequence_parallel", [sequence](ParallelConfig& p, int64_t n) {
        p.tensor = n;
        p.sequence_parallel = sequence;
      });
    }
    axis("ring", ", allgather", [](ParallelConfig& p, int64_t n) {
      p.ring = n;
      p.context = ContextChoice::allgather;
    });
    for (const int64_t stage : {1, 2, 3}) {
      axis("data", fmt::format(", zero {}", stage), [stage](ParallelConfig& p, int64_t n) {
        p.data = n;
        p.zero = stage;
      });
    }
  }

 private:
  using Set = std::function<void(ParallelConfig&, int64_t)>;

  void passes() {
    Config config = base_;
    config.train.micro_batch = 1;
    const std::string refusal = refusal_of(config, 1);
    out_.push_back({fmt::format("one rank, {} passes", config.train.batch_samples), 1, false, config, refusal});
  }

  void axis(const std::string& name, const std::string& suffix, const Set& set) {
    for (int64_t extent = ranks_; extent > 1; --extent) {
      Config config = base_;
      set(config.parallel, extent);
      const std::string refusal = refusal_of(config, extent);
      if (refusal.empty() || extent == ranks_) {
        out_.push_back({fmt::format("{} {}{}", name, extent, suffix), extent, false, config, refusal});
      }
      if (refusal.empty()) return;
    }
  }

  Config base_;
  int64_t ranks_;
  std::vector<VerifyLayout>& out_;
};

bool legal(const Config& config, int64_t ranks) {
  Config copy = config;
  return refusal_of(copy, ranks).empty();
}

}  // namespace

int64_t least_ranks(const Config& config) {
  constexpr int64_t kMostData = 64;
  const ParallelConfig& p = config.parallel;
  int64_t others = 1;
  for (const int64_t extent : {p.ring, p.ulysses, p.tensor, p.pipeline}) others *= std::max<int64_t>(1, extent);
  if (p.data > 0) return p.data * others;
  for (int64_t data = 1; data <= kMostData; ++data) {
    if (legal(config, data * others)) return data * others;
  }
  return others;
}

Config shrink(const Config& config, int64_t ranks, int64_t sequence, std::vector<std::string>& notes) {
  const RunLayout layout = resolve_layout(config, ranks);
  Config small = config;
  const int64_t per_pass = layout.data * std::min(layout.micro_batch, kRows);
  const int64_t wanted = std::lcm(per_pass * std::min(layout.passes, kPasses), ranks);
  if (wanted < config.train.batch_samples) {
    const bool several = layout.passes > 1;
    small.train.batch = {static_cast<double>(wanted), AmountUnit::samples};
    small.train.micro_batch = several ? per_pass / layout.data : wanted / layout.data;
    notes.push_back(fmt::format("train.batch is {} samples here instead of {}: {} data rank{} x {} pass{} of {}",
                                wanted, config.train.batch_samples, layout.data, layout.data == 1 ? "" : "s",
                                wanted / layout.data / small.train.micro_batch, several ? "es" : "",
                                small.train.micro_batch));
  } else {
    small.train.micro_batch = layout.micro_batch;
  }
  if (sequence > 0 && config.task.kind == TaskKind::forecast) {
    fail(ErrorKind::usage, "--sequence is for language models; set --data.lookback and --data.horizon");
  }
  if (sequence > 0 && sequence != config.data.sequence) {
    small.data.sequence = sequence;
    notes.push_back(fmt::format("data.sequence is {} tokens here instead of {}", sequence, config.data.sequence));
  }
  const std::string refusal = refusal_of(small, ranks);
  if (!refusal.empty()) fail(ErrorKind::config, "with {} samples a step: {}", wanted, refusal);
  return small;
}

Config one_rank(const Config& config) {
  Config one = config;
  one.parallel = ParallelConfig{};
  one.parallel.data = 1;
  one.parallel.bucket_bytes = config.parallel.bucket_bytes;
  one.train.micro_batch = 0;
  return checked(one);
}

std::vector<VerifyLayout> verify_layouts(const Config& config, int64_t ranks, bool only_own) {
  std::vector<VerifyLayout> out{{own_name(config, ranks), ranks, true, config, {}}};
  if (!only_own) Variants(config, ranks, out).all();
  const auto same = [&](const VerifyLayout& l) {
    return !l.own && l.ranks == ranks && l.refusal.empty() &&
           resolve_layout(l.config, ranks) == resolve_layout(config, ranks) &&
           l.config.parallel.zero == config.parallel.zero && l.config.parallel.context == config.parallel.context &&
           l.config.parallel.overrides == config.parallel.overrides &&
           l.config.parallel.gather_heads == config.parallel.gather_heads &&
           l.config.parallel.sequence_parallel == config.parallel.sequence_parallel;
  };
  std::erase_if(out, same);
  return out;
}

}  // namespace farsight
