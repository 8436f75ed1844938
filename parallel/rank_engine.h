// SPDX-License-Identifier: Apache-2.0
// Operations under way of one rank, and the requests that users hold of them. Whoever waits for one drives them all.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>

#include "parallel/comm.h"
#include "parallel/flight_log.h"
#include "parallel/transport.h"

namespace farsight {

// A started operation that somebody has to drive.
class Operation {
 public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() = default;
  virtual bool advance() = 0;  // true once finished; then never called again
};

// What all communicators of one rank share: options, the flight log and the operations under way.
class RankEngine {
 public:
  explicit RankEngine(const CommOptions& options) : options(options) {}
  void add(Operation* operation) { active_.push_back(operation); }
  void remove(Operation* operation) { active_.remove(operation); }
  void progress();
  double waited_ms() const { return std::chrono::duration<double, std::milli>(waited_).count(); }

  // Counts its lifetime as time in which the rank waits. Not nested.
  class Waiting {
   public:
    explicit Waiting(RankEngine& engine) : engine_(engine) {}
    ~Waiting() { engine_.waited_ += Clock::now() - start_; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    RankEngine& engine_;
    std::chrono::steady_clock::time_point start_ = Clock::now();
  };

  const CommOptions options;
  FlightLog log;

 private:
  using Clock = std::chrono::steady_clock;
  std::list<Operation*> active_;
  Clock::duration waited_{0};
};

// Registers the operation with the engine until it has finished, then marks entry `sequence` of the flight log.
RequestPtr make_request(std::unique_ptr<Operation> operation, std::shared_ptr<RankEngine> engine, Transport& transport,
                        uint64_t sequence);

}  // namespace farsight
