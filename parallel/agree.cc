// SPDX-License-Identifier: Apache-2.0
#include "parallel/agree.h"

#include <algorithm>
#include <array>
#include <string>

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kMaxMessage = 4096;

// An error as it travels: kind and text of fixed room.
struct ErrorReport {
  ErrorKind kind = ErrorKind::internal;
  std::string text;
};

ErrorReport describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return {e.kind(), e.what()};
  } catch (const std::exception& e) {
    return {ErrorKind::internal, e.what()};
  } catch (...) {
    return {ErrorKind::internal, "unknown exception"};
  }
}

}  // namespace

void agree(Communicator& world, std::span<int64_t> flags) { world.all_reduce(flags, ReduceOp::max); }

void agree_on_error(Communicator& world, const std::exception_ptr& error) {
  std::array<int64_t, 1> first{error ? world.rank() : world.size()};
  world.all_reduce(std::span<int64_t>(first), ReduceOp::min);
  const auto failed = static_cast<int>(first[0]);
  if (failed == world.size()) return;
  ErrorReport report;
  if (failed == world.rank()) report = describe(error);
  std::array<int64_t, 2> head{static_cast<int64_t>(report.kind),
                              static_cast<int64_t>(std::min(report.text.size(), kMaxMessage))};
  world.broadcast(std::as_writable_bytes(std::span(head)), failed);
  report.text.resize(static_cast<size_t>(head[1]));
  world.broadcast(std::as_writable_bytes(std::span(report.text.data(), report.text.size())), failed);
  const std::string prefix = world.size() > 1 ? fmt::format("rank {}: ", failed) : "";
  throw Error(static_cast<ErrorKind>(head[0]), prefix + report.text);
}

void together(Communicator& world, const std::function<void()>& body) {
  std::exception_ptr error;
  try {
    body();
  } catch (...) {
    error = std::current_exception();
  }
  agree_on_error(world, error);
}

}  // namespace farsight
