// SPDX-License-Identifier: Apache-2.0
// MPI 3.1 as the back end of Communicator. One MpiSession lives from the start to the end of a parallel command.
#pragma once

#include <memory>
#include <string>

#include "parallel/comm.h"

namespace farsight {

// Initialises MPI with MPI_THREAD_FUNNELED and finalises it. Create it on the main thread, once per process.
// The destructor finalises MPI; if it runs during stack unwinding it ends the job instead (MPI_Abort with exit code
// 70), because the other ranks may be waiting in a collective: catch the error inside the session's scope and agree on
// it, or call world().abort(exit_code(kind)).
// Throws Error{environment} when the launcher started n > 1 processes that do not see each other (n singletons) and
// when MPI cannot be called from a program with threads.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv, const CommOptions& options = {});
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  Communicator& world() { return *world_; }
  int local_rank() const { return local_rank_; }  // among the ranks of this node
  int local_size() const { return local_size_; }
  // How large collectives of the world travel: "shared memory, 256 KiB per rank", or "messages: " and why. The same on
  // all ranks; a communicator split from it decides for itself in the same way.
  const std::string& sharing() const { return sharing_; }

 private:
  std::unique_ptr<Communicator> world_;
  std::string sharing_;
  int local_rank_ = 0;
  int local_size_ = 1;
};

// Ranks that the launcher says it started (OMPI_COMM_WORLD_SIZE, PMI_SIZE, SLURM_NTASKS), 1 without a launcher.
// More than one while the MPI world has size 1 means singletons.
int launched_ranks();
// Throws Error{environment} if `launched` > 1 and `world` == 1.
void refuse_singletons(int launched, int world);

// "Open MPI v4.1.4, ..."; may be called without a session.
std::string mpi_library();
std::string host_name();

}  // namespace farsight
