// SPDX-License-Identifier: Apache-2.0
#include "trainer/parallel_command.h"

#include <cstdlib>
#include <exception>
#include <optional>
#include <ostream>
#include <string>

#include "parallel/agree.h"
#include "parallel/mpi_comm.h"
#include "trainer/agreed_error.h"
#include "trainer/command_line.h"

namespace farsight {
namespace {

// This rank alone knows of the error: say it in one write and take the others down. Does not return.
void abort_job(Communicator& world, std::ostream& err, const std::string& message, int code) {
  err << fmt::format("rank {} ({}): error: {}\n", world.rank(), host_name(), message) << std::flush;
  world.abort(code);
}

int run_body(Communicator& world, std::ostream& err, const std::function<int(Communicator&)>& body) {
  try {
    return body(world);
  } catch (const AgreedError&) {
    throw;
  } catch (const Error& error) {
    abort_job(world, err, error.what(), exit_code(error.kind()));
    throw;
  } catch (const std::exception& error) {
    abort_job(world, err, std::string(error.what()) + " (a bug: please report it)", exit_code(ErrorKind::internal));
    throw;
  }
}

}  // namespace

bool expected_root() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* value = std::getenv(name)) return std::string(value) == "0";
  }
  return true;
}

int run_parallel(std::ostream& err, const std::function<void()>& before,
                 const std::function<int(Communicator& world)>& body) {
  std::exception_ptr early;
  try {
    before();
  } catch (...) {
    early = std::current_exception();  // agreed on below, once the ranks can talk
  }
  std::optional<AgreedError> failure;
  int code = 0;
  bool root = true;
  {
    MpiSession session(nullptr, nullptr);
    Communicator& world = session.world();
    root = world.rank() == 0;
    try {
      agreed([&] { agree_on_error(world, early); });
      code = run_body(world, err, body);
    } catch (const AgreedError& error) {
      failure = error;  // thrown again only after MPI is finalised in order
    }
  }
  if (!failure) return code;
  if (root) throw Error(failure->kind(), failure->what());
  throw ReportedError(failure->kind(), failure->what());
}

}  // namespace farsight
