// SPDX-License-Identifier: Apache-2.0
// Errors that every rank of a job has thrown alike, so that all may leave in order. Any other error is known to one
// rank only, and the job must be aborted, because the others wait for it.
#pragma once

#include <utility>

#include "kernels/error.h"

namespace farsight {

class AgreedError : public Error {
 public:
  explicit AgreedError(const Error& error) : Error(error.kind(), error.what()) {}
};

// Runs body, whose Errors are the same on all ranks (a function of equal arguments, or collective and agreed inside).
template <typename Body>
decltype(auto) agreed(Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const AgreedError&) {
    throw;
  } catch (const Error& error) {
    throw AgreedError(error);
  }
}

}  // namespace farsight
