// SPDX-License-Identifier: Apache-2.0
#include "trainer/doctor.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/fma_probe.h"
#include "kernels/matmul.h"
#include "trainer/version.h"

namespace farsight {
namespace {

constexpr double kSlowFraction = 0.60;  // below this share of the ceiling the matrix library is not doing its job

DoctorCheck judge_cores(const RankReport& rank) {
  DoctorCheck check{
      fmt::format("cores of rank {}", rank.rank), CheckState::ok,
      fmt::format("{} of {} cores of {}, {} threads", rank.cores_allowed, rank.cores_online, rank.host, rank.threads),
      ""};
  const bool bound = rank.cores_allowed == 1 && rank.cores_online > rank.local_size;
  if (bound) {
    check.state = CheckState::warning;
    check.cure =
        "the launcher bound this rank to one core; use mpirun --bind-to none, or --map-by slot:PE=k --bind-to core";
  } else if (rank.threads > rank.cores_allowed) {
    check.state = CheckState::warning;
    check.cure = fmt::format("more threads than cores: set OMP_NUM_THREADS={}", rank.cores_allowed);
  }
  return check;
}

// Ranks of one node that together run more threads than it has cores slow each other down.
std::vector<DoctorCheck> judge_nodes(std::span<const RankReport> ranks) {
  struct Node {
    int64_t ranks = 0, threads = 0, cores = 0;
  };
  std::map<std::string, Node> nodes;
  for (const RankReport& rank : ranks) {
    Node& node = nodes[rank.host];
    ++node.ranks;
    node.threads += rank.threads;
    node.cores = rank.cores_online;
  }
  std::vector<DoctorCheck> checks;
  for (const auto& [host, node] : nodes) {
    if (node.threads <= node.cores) continue;
    checks.push_back({"threads of " + host, CheckState::warning,
                      fmt::format("{} ranks run {} threads on {} cores", node.ranks, node.threads, node.cores),
                      fmt::format("set OMP_NUM_THREADS={}", std::max<int64_t>(1, node.cores / node.ranks))});
  }
  return checks;
}

DoctorCheck judge_gemm(const RankReport& rank) {
  const double fraction = rank.fma_flops > 0.0 ? rank.gemm_flops / rank.fma_flops : 0.0;
  DoctorCheck check{fmt::format("matrix products of rank {}", rank.rank), CheckState::ok,
                    fmt::format("{}: {:.1f} of {:.1f} GFLOP/s ({} FMA loop) = {:.0f} %", matmul_library(),
                                rank.gemm_flops / 1e9, rank.fma_flops / 1e9, simd_target(), 100.0 * fraction),
                    ""};
  if (fraction < kSlowFraction) {
    check.state = CheckState::warning;
    check.cure = fmt::format(
        "{} reaches less than {:.0f} % of what these cores can do; is the machine busy? Otherwise install a newer "
        "libdnnl, whose kernels know this processor",
        matmul_library(), 100.0 * kSlowFraction);
  }
  return check;
}

const char* state_text(CheckState state) {
  switch (state) {
    case CheckState::ok:
      return "ok";
    case CheckState::warning:
      return "warning";
    case CheckState::failed:
      return "FAILED";
  }
  return "";
}

}  // namespace

std::vector<DoctorCheck> judge_ranks(std::span<const RankReport> ranks) {
  std::vector<DoctorCheck> checks;
  for (const RankReport& rank : ranks) checks.push_back(judge_cores(rank));
  for (DoctorCheck& check : judge_nodes(ranks)) checks.push_back(std::move(check));
  for (const RankReport& rank : ranks) checks.push_back(judge_gemm(rank));
  return checks;
}

DoctorCheck judge_sharing(const std::string& sharing, std::span<const RankReport> ranks) {
  DoctorCheck check{"collectives", CheckState::ok, sharing, ""};
  const auto elsewhere = [&](const RankReport& rank) { return rank.host != ranks.front().host; };
  const bool messages = sharing.rfind("messages", 0) == 0;
  if (messages && std::none_of(ranks.begin(), ranks.end(), elsewhere)) {
    check.state = CheckState::warning;
    check.cure =
        "collectives are slower by messages than through shared memory: give the ranks a common /dev/shm with room";
  }
  return check;
}

DoctorCheck judge_devices(std::span<const RankDevice> devices) {
  DoctorCheck check{"device tensors", CheckState::ok, "", ""};
  const auto missing = std::find_if(devices.begin(), devices.end(), [](const auto& d) { return d.bus_id.empty(); });
  if (missing == devices.end()) {
    check.found = choose_between(devices).line;
  } else {
    check.found = fmt::format("rank {} has no device that could be used", missing - devices.begin());
  }
  return check;
}

std::string doctor_text(std::span<const RankReport> ranks, std::span<const DoctorCheck> checks) {
  std::string text = version_text() + "\n";
  text += fmt::format("{} rank{}\n", ranks.size(), ranks.size() == 1 ? "" : "s");
  for (const RankReport& rank : ranks)
    text += fmt::format("  rank {} on {} (local {} of {}): {} threads, {} of {} cores\n", rank.rank, rank.host,
                        rank.local_rank, rank.local_size, rank.threads, rank.cores_allowed, rank.cores_online);
  text += "\n";
  for (const DoctorCheck& check : checks) {
    text += fmt::format("  {:<8} {:<26} {}\n", state_text(check.state), check.name, check.found);
    if (!check.cure.empty()) text += fmt::format("  {:<8} -> {}\n", "", check.cure);
  }
  return text;
}

std::string doctor_json(std::span<const RankReport> ranks, std::span<const DoctorCheck> checks) {
  nlohmann::ordered_json json;
  json["version"] = version();
  json["commit"] = version_commit();
  for (const auto& [what, value] : build_facts()) json["build"][what] = value;
  for (const RankReport& rank : ranks)
    json["ranks"].push_back({{"rank", rank.rank},
                             {"host", rank.host},
                             {"local_rank", rank.local_rank},
                             {"local_size", rank.local_size},
                             {"cores_allowed", rank.cores_allowed},
                             {"cores_online", rank.cores_online},
                             {"threads", rank.threads},
                             {"fma_flops", rank.fma_flops},
                             {"gemm_flops", rank.gemm_flops}});
  for (const DoctorCheck& check : checks)
    json["checks"].push_back({{"name", check.name},
                              {"state", check.state == CheckState::failed ? "failed" : state_text(check.state)},
                              {"found", check.found},
                              {"cure", check.cure}});
  return json.dump(2) + "\n";
}

}  // namespace farsight
