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
  const int status = device_.backend().stream_create(1, &stream_);
  if (status != 0) leave();
  device_.check("making a communication stream", status);
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
  CudaEvent finished = nullptr;
  CudaEvent stalled = nullptr;  // null: nobody has waited yet, or it had finished by then
  bool enqueued = false;
  bool settled = false;  // later work of the compute stream is behind it
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
  before_ = take_event();
  device_.watch(this, [this] { poll(); });
}

DeviceTransfers::~DeviceTransfers() {
  device_.watch(this, nullptr);
  const CudaBackend& backend = device_.backend();
  for (const auto& flight : flights_) {
    backend.event_destroy(flight->finished);
    if (flight->stalled != nullptr) backend.event_destroy(flight->stalled);
  }
  for (CudaEvent event : spare_events_) backend.event_destroy(event);
  backend.event_destroy(before_);
}

CudaEvent DeviceTransfers::take_event() {
  CudaEvent event = nullptr;
  if (spare_events_.empty()) {
    device_.check("making an event", device_.backend().event_create(&event));
  } else {
    event = spare_events_.back();
    spare_events_.pop_back();
  }
  return event;
}

RequestPtr DeviceTransfers::start(const std::shared_ptr<DeviceGroup>& group, FlightEntry entry,
                                  std::vector<Tensor> tensors, const Enqueue& enqueue) {
  if (flights_.size() >= kUnpolled) retire();
  const CudaBackend& backend = device_.backend();
  auto flight = std::make_shared<Flight>();
  flight->group = group;
  flight->tensors = std::move(tensors);
  flight->finished = take_event();
  flight->entry = std::move(entry);
  flight->entry.posted = std::chrono::steady_clock::now();
  flight->entry.sequence = log_.begin(flight->entry);
  flights_.push_back(flight);
  check_group(*group);
  device_.check("a transfer", backend.event_record(before_, device_.stream()));
  device_.check("a transfer", backend.event_wait(before_, group->stream()));
  if (enqueue(group->ranks(), group->stream()) != 0) {
    const std::string why = backend.message();
    check_group(*group);  // knows more where the group has failed
    fail(ErrorKind::environment, "{}: {}", to_string(flight->entry, std::chrono::steady_clock::now()), why);
  }
  device_.check("a transfer", backend.event_record(flight->finished, group->stream()));
  flight->enqueued = true;
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
    const bool asked = flight->enqueued && device_.backend().event_query(flight->finished, &finished) == 0;
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
      spare_events_.push_back(flight->stalled);
    }
    spare_events_.push_back(flight->finished);
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
  flight.stalled = take_event();
  device_.check("waiting for a transfer", device_.backend().event_record(flight.stalled, device_.stream()));
  device_.check("waiting for a transfer", device_.backend().event_wait(flight.finished, device_.stream()));
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
