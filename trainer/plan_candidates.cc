// SPDX-License-Identifier: Apache-2.0
#include "trainer/plan_candidates.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/config_check.h"

namespace farsight {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 16;  // of a micro-batch: beyond, nothing gets faster

std::vector<int64_t> divisors(int64_t n) {
  std::vector<int64_t> all;
  for (int64_t d = 1; d <= n; ++d) {
    if (n % d == 0) all.push_back(d);
  }
  return all;
}

// The values a key may take.
template <typename T>
std::vector<T> choices(bool free, std::vector<T> all, T asked) {
  return free ? std::move(all) : std::vector<T>{asked};
}

class Enumeration {
 public:
  Enumeration(const Config& config, const CandidateRequest& request, const Calibration& calibration)
      : config_(config), request_(request), calibration_(calibration) {}

  std::vector<LayoutCandidate> all();

 private:
  void with_extents(int64_t tensor, int64_t ulysses, int64_t ring);
  void with_states(const Config& extents);
  void with_micro_batch(const Config& config);
  void add(const Config& config);
  void reject(const Config& config, const std::string& why);
  const RankParameters& parameters(const Config& config, const RunLayout& layout);

  const Config& config_;
  const CandidateRequest& request_;
  const Calibration& calibration_;
  std::map<std::tuple<int64_t, int64_t, int64_t, int64_t>, RankParameters> parameters_;
  std::vector<LayoutCandidate> out_;
};

void Enumeration::reject(const Config& config, const std::string& why) {
  LayoutCandidate candidate;
  candidate.config = config;
  candidate.layout.world = request_.ranks;
  candidate.layout.tensor = config.parallel.tensor;
  candidate.layout.ulysses = config.parallel.ulysses;
  candidate.layout.ring = config.parallel.ring;
  candidate.layout.data = request_.ranks / (config.parallel.tensor * config.parallel.ulysses * config.parallel.ring);
  candidate.layout.micro_batch = config.train.micro_batch;
  candidate.rejected = why;
  out_.push_back(std::move(candidate));
}

const RankParameters& Enumeration::parameters(const Config& config, const RunLayout& layout) {
  const int64_t replicas = layout.data * layout.context();
  const auto key = std::tuple(layout.tensor, config.parallel.zero, layout.zero_group, replicas);
  const auto found = parameters_.find(key);
  if (found != parameters_.end()) return found->second;
  return parameters_.emplace(key, largest_rank_parameters(config, layout, request_.vocab)).first->second;
}

void Enumeration::add(const Config& config) {
  LayoutCandidate candidate;
  candidate.config = config;
  candidate.layout = resolve_layout(config, request_.ranks);
  const RankParameters& p = parameters(config, candidate.layout);
  candidate.memory = memory_plan(config, candidate.layout, request_.vocab, calibration_.precision, p);
  candidate.time = step_time(config, candidate.layout, request_.vocab, calibration_, request_.ranks_per_node, p);
  candidate.rejected = memory_problem(config, candidate.memory, request_.memory_limit);
  out_.push_back(std::move(candidate));
}

void Enumeration::with_micro_batch(const Config& config) {
  const ParallelConfig& p = config.parallel;
  const int64_t data = request_.ranks / (p.tensor * p.ulysses * p.ring);
  const int64_t samples = config.train.batch_samples / data;
  const int64_t local = (config.data.sequence + p.ring * p.ulysses - 1) / (p.ring * p.ulysses);
  Config next = config;
  if (!request_.freedom.micro_batch) return add(next);
  for (int64_t b = 1; b <= samples && (b == 1 || b * local <= kMostRows); b *= 2) {
    if (samples % b != 0) continue;
    next.train.micro_batch = b;
    add(next);
  }
}

void Enumeration::with_states(const Config& extents) {
  const PlanFreedom& free = request_.freedom;
  const bool cut = extents.parallel.tensor > 1;
  using R = RecomputeChoice;
  Config next = extents;
  for (const bool rows : choices<bool>(free.sequence_parallel && cut, {true, false}, next.parallel.sequence_parallel)) {
    next.parallel.sequence_parallel = rows;
    for (const int64_t zero : choices<int64_t>(free.zero, {0, 1, 2, 3}, extents.parallel.zero)) {
      next.parallel.zero = zero;
      for (const R recompute : choices<R>(free.recompute, {R::none, R::attn, R::layer}, extents.train.recompute)) {
        next.train.recompute = recompute;
        with_micro_batch(next);
      }
    }
  }
}

void Enumeration::with_extents(int64_t tensor, int64_t ulysses, int64_t ring) {
  Config next = config_;
  next.parallel.tensor = tensor;
  next.parallel.ulysses = ulysses;
  next.parallel.ring = ring;
  if (request_.freedom.data) next.parallel.data = 0;
  if (request_.freedom.micro_batch) next.train.micro_batch = 0;
  if (request_.freedom.zero) next.parallel.zero = 0;
  ConfigProblems problems;
  finish_config(next, "configuration", {}, problems);
  if (!problems.empty()) return reject(next, problems.lines().front());
  try {
    resolve_layout(next, request_.ranks);
    with_states(next);
  } catch (const Error& error) {
    reject(next, error.what());
  }
}

// How much is cut: the last word between candidates of equal speed.
auto order_of(const LayoutCandidate& c) {
  const RunLayout& l = c.layout;
  return std::tuple(l.tensor, l.ulysses, l.ring, c.config.parallel.zero, static_cast<int>(c.config.train.recompute),
                    l.micro_batch, !c.config.parallel.sequence_parallel);
}

std::vector<LayoutCandidate> Enumeration::all() {
  const PlanFreedom& free = request_.freedom;
  const ParallelConfig& p = config_.parallel;
  for (const int64_t tensor : choices(free.tensor, divisors(request_.ranks), p.tensor)) {
    if (request_.ranks % tensor != 0) continue;
    const int64_t left = request_.ranks / tensor;
    for (const int64_t ulysses : choices(free.ulysses, divisors(left), p.ulysses)) {
      if (left % ulysses != 0) continue;
      for (const int64_t ring : choices(free.ring, divisors(left / ulysses), p.ring)) {
        if (left / ulysses % ring == 0) with_extents(tensor, ulysses, ring);
      }
    }
  }
  std::stable_sort(out_.begin(), out_.end(), [](const LayoutCandidate& a, const LayoutCandidate& b) {
    if (a.rejected.empty() != b.rejected.empty()) return a.rejected.empty();
    if (a.rejected.empty() && a.time.tokens_per_s != b.time.tokens_per_s)
      return a.time.tokens_per_s > b.time.tokens_per_s;
    return order_of(a) < order_of(b);
  });
  return std::move(out_);
}

}  // namespace

std::vector<LayoutCandidate> plan_candidates(const Config& config, const CandidateRequest& request,
                                             const Calibration& calibration) {
  return Enumeration(config, request, calibration).all();
}

std::string memory_problem(const Config& config, const MemoryPlan& memory, int64_t limit) {
  if (limit == 0 || memory.total() <= limit) return {};
  return fmt::format(
      "{}: error: a rank needs about {:.2f} GiB, {:.2f} GiB are allowed; use train.recompute = \"layer\", "
      "a smaller train.micro_batch, or more parallel.ring ranks",
      first_origin(config, {"train.micro_batch", "train.batch", "data.sequence"}, "configuration"),
      static_cast<double>(memory.total()) / (1 << 30), static_cast<double>(limit) / (1 << 30));
}

}  // namespace farsight
