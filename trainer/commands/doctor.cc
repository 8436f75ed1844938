// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/doctor.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <ostream>

#include "parallel/mpi_comm.h"
#include "trainer/doctor.h"

namespace farsight {
namespace {

// The fixed-size form of a RankReport that ranks exchange.
struct WireReport {
  int64_t local_rank, local_size, cores_allowed, cores_online, threads;
  double fma_flops, gemm_flops;
  std::array<char, 64> host;
};

WireReport to_wire(const RankReport& report) {
  WireReport wire{report.local_rank, report.local_size, report.cores_allowed, report.cores_online,
                  report.threads,    report.fma_flops,  report.gemm_flops,    {}};
  std::copy_n(report.host.begin(), std::min(report.host.size(), wire.host.size() - 1), wire.host.begin());
  return wire;
}

RankReport from_wire(const WireReport& wire, int64_t rank) {
  return {rank,         wire.local_rank, wire.local_size, wire.cores_allowed, wire.cores_online,
          wire.threads, wire.fma_flops,  wire.gemm_flops, wire.host.data()};
}

std::vector<RankReport> gather(Communicator& world, const RankReport& mine) {
  const auto size = static_cast<size_t>(world.size());
  const WireReport wire = to_wire(mine);
  std::vector<WireReport> all(size);
  const std::vector<int64_t> counts(size, static_cast<int64_t>(sizeof(WireReport)));
  world.all_gather(std::as_bytes(std::span(&wire, 1)), std::as_writable_bytes(std::span(all)), counts);
  std::vector<RankReport> reports;
  for (size_t r = 0; r < size; ++r) reports.push_back(from_wire(all[r], static_cast<int64_t>(r)));
  return reports;
}

int report(const std::vector<RankReport>& ranks, const std::string& sharing, const std::vector<RankDevice>& devices,
           bool json, std::ostream& out) {
  std::vector<DoctorCheck> checks = judge_ranks(ranks);
  checks.push_back(judge_sharing(sharing, ranks));
  checks.push_back(judge_devices(devices));
  for (DoctorCheck check : {check_launcher(), check_cuda(), check_memory(), check_disk("."), check_vectors()})
    checks.push_back(std::move(check));
  out << (json ? doctor_json(ranks, checks) : doctor_text(ranks, checks)) << std::flush;
  const bool failed = std::any_of(checks.begin(), checks.end(),
                                  [](const DoctorCheck& check) { return check.state == CheckState::failed; });
  return failed ? exit_code(ErrorKind::environment) : 0;
}

}  // namespace

int run_doctor(const CommandArguments& arguments, std::ostream& out, std::ostream&) {
  MpiSession session(nullptr, nullptr);
  Communicator& world = session.world();
  world.barrier();  // so that all ranks measure at the same time
  RankReport mine = examine_rank();
  mine.local_rank = session.local_rank();
  mine.local_size = session.local_size();
  const std::vector<RankReport> ranks = gather(world, mine);
  const std::vector<RankDevice> devices = gather_devices(world, device_of_rank(session.local_rank()));
  std::array<int64_t, 1> code{world.rank() == 0 ? report(ranks, session.sharing(), devices, arguments.has("json"), out)
                                                : 0};
  world.all_reduce(std::span<int64_t>(code), ReduceOp::max);
  return static_cast<int>(code[0]);
}

}  // namespace farsight
