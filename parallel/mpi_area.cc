// SPDX-License-Identifier: Apache-2.0
#include "parallel/mpi_area.h"

#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "parallel/shared_segment.h"

namespace farsight {

namespace {

constexpr int64_t kPage = 4096;

// An area that keeps the memory it lies in.
class SegmentArea final : public SharedArea {
 public:
  SegmentArea(int rank, const Shape& shape, std::unique_ptr<SharedSegment> segment)
      : SharedArea(rank, shape, reinterpret_cast<SharedCounters*>(segment->data()),
                   segment->data() + counter_bytes(shape.ranks)),
        segment_(std::move(segment)) {}

  static int64_t counter_bytes(int ranks) {
    return (ranks * static_cast<int64_t>(sizeof(SharedCounters)) + kPage - 1) / kPage * kPage;
  }

 private:
  std::unique_ptr<SharedSegment> segment_;
};

struct Group {
  MPI_Comm comm;
  int rank = 0, size = 1;
};

int64_t least(const Group& group, int64_t value) {
  MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, MPI_MIN, group.comm);
  return value;
}

bool on_one_node(const Group& group) {
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(group.comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int ranks = 0;
  MPI_Comm_size(node, &ranks);
  MPI_Comm_free(&node);
  return least(group, ranks) == group.size;
}

// The problem of the first rank that has one, the same text on all ranks; empty if none has.
std::string first_problem(const Group& group, const std::string& mine) {
  const int64_t rank = least(group, mine.empty() ? group.size : group.rank);
  if (rank == group.size) return {};
  std::array<char, 256> text{};
  if (rank == group.rank) mine.copy(text.data(), text.size() - 1);
  MPI_Bcast(text.data(), static_cast<int>(text.size()), MPI_CHAR, static_cast<int>(rank), group.comm);
  return fmt::format("rank {}: {}", rank, text.data());
}

// Whether every rank may read the memory of the next one: refused under some system-call filters and by Yama.
bool can_read_each_other(const Group& group) {
  const std::array<int64_t, 2> here{getpid(), static_cast<int64_t>(reinterpret_cast<intptr_t>(&here))};
  std::vector<std::array<int64_t, 2>> all(static_cast<size_t>(group.size));
  MPI_Allgather(here.data(), 2, MPI_INT64_T, all.data(), 2, MPI_INT64_T, group.comm);
  const auto [process, address] = all[static_cast<size_t>((group.rank + 1) % group.size)];
  std::array<int64_t, 2> found{};
  const iovec local{found.data(), sizeof(found)};
  const iovec remote{reinterpret_cast<void*>(static_cast<intptr_t>(address)), sizeof(found)};
  const bool read = process_vm_readv(static_cast<pid_t>(process), &local, 1, &remote, 1, 0) == sizeof(found) &&
                    found[0] == process && found[1] == address;
  return least(group, read ? 1 : 0) == 1;  // nobody leaves before all have read
}

// Rank 0 makes the segment, the others map it. Null on all ranks with the reason in `problem`, or on none.
std::unique_ptr<SharedSegment> make_segment(const Group& group, int64_t bytes, std::string& problem) {
  std::unique_ptr<SharedSegment> segment;
  SharedSegment::Address address;
  std::string mine;
  const auto attempt = [&mine, &segment](const auto& argument) {
    try {
      segment = std::make_unique<SharedSegment>(argument);
    } catch (const Error& e) {
      mine = e.what();
    }
  };
  if (group.rank == 0) attempt(bytes);
  if (segment) {
    address = segment->address();
    for (int r = 0; r < group.size; ++r) new (segment->data() + r * sizeof(SharedCounters)) SharedCounters;
  }
  MPI_Bcast(&address, static_cast<int>(sizeof(address)), MPI_BYTE, 0, group.comm);
  if (group.rank != 0 && address.bytes > 0) attempt(address);
  problem = first_problem(group, mine);
  if (!problem.empty()) return nullptr;
  segment->seal();
  return segment;
}

}  // namespace

MpiArea make_mpi_area(MPI_Comm comm, const CommOptions& options, int threads) {
  Group group{comm};
  MPI_Comm_rank(comm, &group.rank);
  MPI_Comm_size(comm, &group.size);
  if (group.size == 1) return {nullptr, "one rank", false};
  if (options.window_bytes <= 0) return {nullptr, "messages: no shared memory is wanted", false};
  if (!on_one_node(group)) return {nullptr, "messages: the ranks are on several nodes", false};
  const auto shape = SharedArea::suitable_shape(group.size, threads, options.window_bytes);
  const int64_t window = SharedArea::window_bytes(shape);
  std::string problem;
  auto segment = make_segment(group, SegmentArea::counter_bytes(group.size) + group.size * window, problem);
  if (!segment) return {nullptr, "messages: " + problem, false};
  return {std::make_unique<SegmentArea>(group.rank, shape, std::move(segment)),
          fmt::format("shared memory, {} KiB per rank", window >> 10), can_read_each_other(group)};
}

}  // namespace farsight
