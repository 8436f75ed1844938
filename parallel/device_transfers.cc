// SPDX-License-Identifier: Apache-2.0
#include "parallel/device_transfers.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "kernels/error.h"

namespace farsight {
namespace {

// So many transfers are under way before a new one asks which of them have finished.
constexpr size_t kUnpolled = 64;

std::string list_of(const std::vector<int>& ranks) {
  std::string text;
  for (const int r : ranks) text += fmt::format("{}{}", text.empty() ? "" : ", ", r);
  return text;
}

}  // namespace

DeviceGroup::DeviceGroup(CudaDevice& device, CudaRanks ranks, std::string name, std::vector<int> members)
    : device_(device),
      ranks_(ranks),
      name_(std::move(name)),
      members_(std::move(members)),
      exceptions_(std::uncaught_exceptions()) {
  // High priority: a transfer that is ready takes its few blocks before the next ones of the arithmetic it overlaps.
  try {
    stream_ = device_.make_stream(/*high_priority=*/true);
  } catch (...) {
    leave();
    throw;
  }
}

DeviceGroup::~DeviceGroup() {
  leave();
  if (stream_ != nullptr) device_.backend().stream_destroy(stream_);
}

void DeviceGroup::leave() noexcept {
  if (std::uncaught_exceptions() > exceptions_) abort("this rank has failed");
  if (ranks_ != nullptr) device_.backend().ranks_destroy(ranks_);
  ranks_ = nullptr;
}

void DeviceGroup::abort(std::string failure) noexcept {
  if (ranks_ == nullptr) return;
  failure_ = std::move(failure);
  device_.backend().ranks_abort(ranks_);
  ranks_ = nullptr;
}

// Two events on the two streams: the compute stream stands still from `stalled` to `finished`.
struct DeviceTransfers::Flight {
  std::shared_ptr<DeviceGroup> group;
  FlightEntry entry;
  std::vector<Tensor> tensors;
  CudaEvent finished = nullptr;  // null: it could not be started
  CudaEvent stalled = nullptr;   // null: nobody has waited yet, or it had finished by then
  bool settled = false;          // later work of the compute stream is behind it
};

class DeviceTransfers::FlightRequest final : public Request {
 public:
  FlightRequest(DeviceTransfers& transfers, std::shared_ptr<Flight> flight)
      : transfers_(transfers), flight_(std::move(flight)) {}
  ~FlightRequest() override {
    if (std::uncaught_exceptions() != exceptions_) return;  // the group is about to be aborted
    try {
      wait();
    } catch (...) {  // a destructor has nobody to tell; the next operation of the group reports it
    }
  }
  void wait() override { transfers_.wait(*flight_); }
  bool test() override { return transfers_.test(*flight_); }

 private:
  DeviceTransfers& transfers_;
  std::shared_ptr<Flight> flight_;
  int exceptions_ = std::uncaught_exceptions();
};

DeviceTransfers::DeviceTransfers(CudaDevice& device, FlightLog& log) : device_(device), log_(log) {
  device_.watch(this, [this] { poll(); });
}

DeviceTransfers::~DeviceTransfers() {
  device_.watch(this, nullptr);
  for (const auto& flight : flights_) {
    if (flight->finished != nullptr) device_.give_event(flight->finished);
    if (flight->stalled != nullptr) device_.give_event(flight->stalled);
  }
}

RequestPtr DeviceTransfers::start(const std::shared_ptr<DeviceGroup>& group, FlightEntry entry,
                                  std::vector<Tensor> tensors, const Enqueue& enqueue) {
  if (flights_.size() >= kUnpolled) retire();
  auto flight = std::make_shared<Flight>();
  flight->group = group;
  flight->tensors = std::move(tensors);
  flight->entry = std::move(entry);
  flight->entry.posted = std::chrono::steady_clock::now();
  flight->entry.sequence = log_.begin(flight->entry);
  flights_.push_back(flight);
  check_group(*group);
  device_.order_stream(group->stream());
  if (enqueue(group->ranks(), group->stream()) != 0) {
    const std::string why = device_.backend().message();
    check_group(*group);  // knows more where the group has failed
    fail(ErrorKind::environment, "{}: {}", to_string(flight->entry, std::chrono::steady_clock::now()), why);
  }
  flight->finished = device_.mark(group->stream());
  return std::make_unique<FlightRequest>(*this, std::move(flight));
}

void DeviceTransfers::check_group(DeviceGroup& group) {
  std::string why = group.failure();
  if (group.ranks() != nullptr) {
    if (device_.backend().ranks_error(group.ranks()) == 0) return;
    why = device_.backend().message();
  }
  const auto first = std::find_if(flights_.begin(), flights_.end(), [&](const auto& flight) {
    int32_t finished = 0;
    const bool asked = flight->finished != nullptr && device_.backend().event_query(flight->finished, &finished) == 0;
    return flight->group.get() == &group && !(asked && finished != 0);
  });
  const std::string operation =
      first == flights_.end() ? "none" : to_string((*first)->entry, std::chrono::steady_clock::now());
  group.abort(why);
  fail(ErrorKind::environment,
       "device transfers of axis {} among ranks {} have failed: {}. First unfinished operation: {}. See that all ranks "
       "and their links are up, and resume from the last checkpoint",
       group.name(), list_of(group.members()), why, operation);
}

bool DeviceTransfers::passed(CudaEvent event) const {
  int32_t finished = 0;
  device_.check("a transfer", device_.backend().event_query(event, &finished));
  return finished != 0;
}

void DeviceTransfers::retire() {
  std::erase_if(flights_, [this](const std::shared_ptr<Flight>& flight) {
    if (!flight->settled || !passed(flight->finished)) return false;
    if (flight->stalled != nullptr) {
      if (!passed(flight->stalled)) return false;
      float stood_still_ms = 0.0F;
      device_.check("time of a transfer",
                    device_.backend().event_elapsed(flight->stalled, flight->finished, &stood_still_ms));
      exposed_ms_ += std::max(0.0, static_cast<double>(stood_still_ms));
      device_.give_event(flight->stalled);
    }
    device_.give_event(flight->finished);
    log_.finish(flight->entry.sequence);
    return true;
  });
}

void DeviceTransfers::poll() {
  std::erase_if(groups_, [](const auto& group) { return group.expired(); });
  for (const auto& known : groups_) {
    const auto group = known.lock();
    if (group && group->ranks() != nullptr) check_group(*group);
  }
  retire();
}

void DeviceTransfers::wait(Flight& flight) {
  if (flight.settled) return;
  check_group(*flight.group);
  flight.stalled = device_.mark(device_.stream());
  device_.wait_event(flight.finished);
  flight.settled = true;
  flight.tensors.clear();
}

bool DeviceTransfers::test(Flight& flight) {
  if (flight.settled) return true;
  check_group(*flight.group);
  if (!passed(flight.finished)) return false;
  flight.settled = true;
  flight.tensors.clear();
  return true;
}

}  // namespace farsight
