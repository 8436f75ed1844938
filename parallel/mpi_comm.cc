// SPDX-License-Identifier: Apache-2.0
#include "parallel/mpi_comm.h"

#include <sched.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <mpi.h>

#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "parallel/message_communicator.h"
#include "parallel/mpi_area.h"
#include "parallel/transport.h"

namespace farsight {

namespace {

// MPI_ERRORS_ARE_FATAL stays in force, so return codes carry no information.
class MpiMessage final : public Message {
 public:
  explicit MpiMessage(MPI_Request request) : request_(request) {}
  bool test() override {
    int done = 0;
    MPI_Test(&request_, &done, MPI_STATUS_IGNORE);
    return done != 0;
  }

 private:
  MPI_Request request_;
};

// What the ranks of a node allow each other.
struct Company {
  int threads;       // with which every rank copies and adds
  int64_t patience;  // fruitless rounds before a waiting rank gives its core away
};

// Ranks that share cores give them away soon, or their partner cannot answer. Ranks with a core each answer within
// microseconds; to give the core away would let others have it for milliseconds. Where all ranks' threads together are
// more than the cores, a team of threads waits for its last member as long, and several times in each step.
Company company_on(MPI_Comm node) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  sched_getaffinity(0, sizeof(cores), &cores);
  MPI_Allreduce(MPI_IN_PLACE, &cores, static_cast<int>(sizeof(cores)), MPI_BYTE, MPI_BOR, node);
  const int count = CPU_COUNT(&cores);
  int ranks = 0, least = thread_count(), all = thread_count();
  MPI_Comm_size(node, &ranks);
  MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_SUM, node);
  MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_INT, MPI_MIN, node);
  return {all <= count ? least : 1, ranks <= count ? 1024 : 32};
}

class MpiTransport final : public Transport {
 public:
  // Collective.
  MpiTransport(MPI_Comm comm, bool owned, const CommOptions& options, const Company& company)
      : comm_(comm),
        owned_(owned),
        options_(options),
        company_(company),
        area_(make_mpi_area(comm, options, company.threads)) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiTransport() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    // Freeing is collective: not while this rank leaves on an error of its own.
    if (owned_ && finalized == 0 && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  MessagePtr send(const std::byte* data, int64_t bytes, int to, int tag) override {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, comm_, &request);
    return std::make_unique<MpiMessage>(request);
  }
  MessagePtr receive(std::byte* data, int64_t bytes, int from, int tag) override {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from, tag, comm_, &request);
    return std::make_unique<MpiMessage>(request);
  }
  void idle(int64_t fruitless) override {
    // While a rank waits for shared memory it calls MPI for nothing else, but its sends may need it.
    if (fruitless % 16 == 15) {
      int found = 0;
      MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm_, &found, MPI_STATUS_IGNORE);
    }
    if (fruitless >= company_.patience) std::this_thread::yield();
  }
  SharedArea* shared() override { return area_.area.get(); }
  bool copies_once() const override { return area_.one_copy; }
  const std::string& sharing() const { return area_.description; }
  std::unique_ptr<Transport> split(int colour, int key, const std::vector<int>&, uint64_t) override {
    MPI_Comm part = MPI_COMM_NULL;
    MPI_Comm_split(comm_, colour, key, &part);
    return std::make_unique<MpiTransport>(part, /*owned=*/true, options_, company_);
  }
  [[noreturn]] void abort(int code) override {
    MPI_Abort(MPI_COMM_WORLD, code);
    std::_Exit(code);
  }

 private:
  MPI_Comm comm_;
  bool owned_;
  CommOptions options_;
  Company company_;
  MpiArea area_;
  int rank_ = 0;
  int size_ = 1;
};

int environment_count(const char* name) {
  const char* text = std::getenv(name);
  int value = 0;
  if (text == nullptr) return 0;
  const std::string_view view(text);
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  return error == std::errc() && end == view.data() + view.size() ? value : 0;
}

}  // namespace

int launched_ranks() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}) {
    const int ranks = environment_count(name);
    if (ranks > 0) return ranks;
  }
  return 1;
}

void refuse_singletons(int launched, int world) {
  if (launched <= 1 || world > 1) return;
  fail(
      ErrorKind::environment,
      "the launcher started {} processes, but each of them is an MPI world of its own (size 1); under Slurm start with "
      "'srun --mpi=pmix' (srun --mpi=list must show it), else use the mpirun of the MPI library the program was built "
      "with ({}); to run one process inside an allocation, unset SLURM_NTASKS",
      launched, mpi_library());
}

MpiSession::MpiSession(int* argc, char*** argv, const CommOptions& options) {
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
  if (provided < MPI_THREAD_FUNNELED) {
    MPI_Finalize();
    fail(ErrorKind::environment, "{} gives no MPI_THREAD_FUNNELED; use an MPI library built with thread support",
         mpi_library());
  }
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &local_rank_);
  MPI_Comm_size(node, &local_size_);
  const Company company = company_on(node);
  MPI_Comm_free(&node);
  auto transport = std::make_unique<MpiTransport>(MPI_COMM_WORLD, /*owned=*/false, options, company);
  sharing_ = transport->sharing();
  world_ = std::make_unique<MessageCommunicator>(std::move(transport), std::make_shared<RankEngine>(options), "world");
  try {
    refuse_singletons(launched_ranks(), world_->size());
  } catch (...) {
    world_.reset();
    MPI_Finalize();
    throw;
  }
}

MpiSession::~MpiSession() {
  constexpr int kInternal = 70;
  if (std::uncaught_exceptions() > 0 && world_->size() > 1) world_->abort(kInternal);
  world_.reset();
  MPI_Finalize();
}

std::string mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data(), static_cast<size_t>(length));
  return whole.substr(0, whole.find(','));
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

}  // namespace farsight
