// SPDX-License-Identifier: Apache-2.0
#include "tests/emulation/ranks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "tests/emulation/streams.h"

namespace farsight::emulation {
namespace {

using cuda::failed;

struct Registry {
  std::mutex mutex;
  uint64_t ids = 0;
  std::map<std::string, std::weak_ptr<EmulatedGroup>> groups;
  std::vector<std::unique_ptr<CudaRanksTag>> aborted;  // kept, so that their use is noticed
};
Registry& registry() {
  static Registry all;
  return all;
}

int64_t breaks_at() {
  const char* text = std::getenv("FARSIGHT_EMULATION_BREAKS");
  return text == nullptr ? -1 : std::atoll(text);
}

CudaRanks new_member(std::shared_ptr<EmulatedGroup> group, int rank, int32_t patience_ms) {
  issue_clock()[group->serial] = 0;
  auto* made = new CudaRanksTag{std::move(group), rank, patience_ms};
  made->breaks = breaks_at();
  return made;
}

// Enters the group and waits for the other ranks.
int enter(const std::shared_ptr<EmulatedGroup>& group, int rank, int32_t patience_ms) {
  std::unique_lock lock(group->mutex);
  if (group->present[static_cast<size_t>(rank)]) return failed(5, "making a group", "two ranks have one number");
  group->present[static_cast<size_t>(rank)] = true;
  ++group->arrived;
  group->changed.notify_all();
  const auto all_here = [&] { return group->arrived == group->size(); };
  if (group->changed.wait_for(lock, std::chrono::milliseconds(patience_ms), all_here)) return 0;
  return failed(7, "making a group", "not all ranks of the group have come in time");
}

int ranks_version(int32_t* version) {
  *version = 22800;
  return 0;
}

int ranks_id(CudaRanksId* id) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::memset(id->bytes, 0, sizeof(id->bytes));
  const uint64_t number = ++all.ids;
  std::memcpy(id->bytes, &number, sizeof(number));
  return 0;
}

int ranks_create(const CudaRanksId* id, int32_t rank, int32_t size, const CudaRanksOptions* options, CudaRanks* ranks) {
  *ranks = nullptr;
  if (rank < 0 || rank >= size) return failed(4, "making a group", "the rank is not below the size");
  std::shared_ptr<EmulatedGroup> group;
  {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    auto& known = all.groups[std::string(id->bytes, sizeof(id->bytes))];
    group = known.lock();
    if (!group) known = group = std::make_shared<EmulatedGroup>(size);
  }
  if (group->size() != size) return failed(5, "making a group", "ranks disagree about its size");
  if (int status = enter(group, rank, options->patience_ms)) return status;
  *ranks = new_member(std::move(group), rank, options->patience_ms);
  return 0;
}

// The group of `colour` among the wishes, and this rank's place in it. The lock is held.
std::shared_ptr<EmulatedGroup> part_of(EmulatedGroup& group, uint64_t number, int rank, int* place) {
  const auto& wishes = group.splits[number];
  const auto& mine = wishes[static_cast<size_t>(rank)];
  int size = 0;
  for (int r = 0; r < group.size(); ++r) {
    const auto& other = wishes[static_cast<size_t>(r)];
    if (other.colour != mine.colour) continue;
    ++size;
    if (std::tie(other.key, r) < std::tie(mine.key, rank)) ++*place;
  }
  auto& part = group.parts[{number, mine.colour}];
  if (!part) part = std::make_shared<EmulatedGroup>(size);
  return part;
}

int ranks_split(CudaRanks ranks, int32_t colour, int32_t key, CudaRanks* part) {
  *part = nullptr;
  if (ranks->aborted) return failed(4, "dividing a group", "it was aborted");
  EmulatedGroup& group = *ranks->group;
  std::shared_ptr<EmulatedGroup> made;
  int place = 0;
  {
    std::unique_lock lock(group.mutex);
    const uint64_t number = ranks->splits++;
    auto& wishes = group.splits[number];
    wishes.resize(static_cast<size_t>(group.size()));
    wishes[static_cast<size_t>(ranks->rank)] = {true, colour, key};
    group.changed.notify_all();
    const auto all_here = [&] {
      return std::all_of(wishes.begin(), wishes.end(), [](const auto& w) { return w.made; });
    };
    if (!group.changed.wait_for(lock, std::chrono::milliseconds(ranks->patience_ms), all_here)) {
      return failed(7, "dividing a group", "not all ranks of the group have come in time");
    }
    if (colour < 0) return 0;
    made = part_of(group, number, ranks->rank, &place);
  }
  if (int status = enter(made, place, ranks->patience_ms)) return status;
  *part = new_member(std::move(made), place, ranks->patience_ms);
  return 0;
}

int ranks_destroy(CudaRanks ranks) {
  if (ranks->aborted) return failed(4, "leaving a group", "it was aborted");
  issue_clock().erase(ranks->group->serial);
  delete ranks;
  return 0;
}

// The others learn of it as of a lost connection.
int ranks_abort(CudaRanks ranks) {
  if (ranks->aborted) return failed(4, "aborting a group", "it was aborted");
  {
    const std::lock_guard lock(ranks->group->mutex);
    if (ranks->group->failure.empty()) ranks->group->failure = "rank " + std::to_string(ranks->rank) + " is gone";
    ranks->group->present[static_cast<size_t>(ranks->rank)] = false;
  }
  issue_clock().erase(ranks->group->serial);
  ranks->aborted = true;
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.aborted.emplace_back(ranks);
  return 0;
}

int ranks_error(CudaRanks ranks) {
  if (ranks->aborted) return failed(4, "a group", "it was aborted");
  const std::lock_guard lock(ranks->group->mutex);
  const std::string& failure = ranks->group->failure;
  return failure.empty() ? 0 : failed(6, "a group", failure.c_str());
}

}  // namespace

IssueClock& issue_clock() {
  thread_local IssueClock clock;
  return clock;
}

EmulatedGroup::EmulatedGroup(int size)
    : serial([] {
        static std::atomic<uint64_t> groups{0};
        return ++groups;
      }()),
      present(static_cast<size_t>(size)) {}

void name_groups(CudaBackend& table) {
  table.ranks_version = ranks_version;
  table.ranks_id = ranks_id;
  table.ranks_create = ranks_create;
  table.ranks_split = ranks_split;
  table.ranks_destroy = ranks_destroy;
  table.ranks_abort = ranks_abort;
  table.ranks_error = ranks_error;
}

}  // namespace farsight::emulation
