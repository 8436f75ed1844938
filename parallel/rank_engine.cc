// SPDX-License-Identifier: Apache-2.0
#include "parallel/rank_engine.h"

#include <exception>
#include <utility>

namespace farsight {

namespace {

// Keeps an operation registered with the engine until it has finished.
class EngineRequest final : public Request {
 public:
  EngineRequest(std::unique_ptr<Operation> operation, std::shared_ptr<RankEngine> engine, Transport& transport,
                uint64_t sequence)
      : tracked_(std::move(operation)), engine_(std::move(engine)), transport_(transport), sequence_(sequence) {
    engine_->add(&tracked_);
  }
  ~EngineRequest() override {
    // During unwinding the other ranks may never answer: the transfer is abandoned and the job ends.
    if (std::uncaught_exceptions() == exceptions_) {
      try {
        wait();
      } catch (...) {  // a destructor has nobody to tell; the next operation on the communicator reports it
      }
    }
    if (!finished_) engine_->remove(&tracked_);
  }
  bool test() override {
    if (finished_) return true;
    engine_->progress();
    return settle();
  }
  void wait() override {
    if (finished_) return;
    const RankEngine::Waiting waiting(*engine_);
    for (int64_t fruitless = 0; !test(); ++fruitless) transport_.idle(fruitless);
  }

 private:
  struct Tracked final : Operation {
    explicit Tracked(std::unique_ptr<Operation> o) : operation(std::move(o)) {}
    bool advance() override {
      finished = finished || operation->advance();
      return finished;
    }
    std::unique_ptr<Operation> operation;
    bool finished = false;
  };

  bool settle() {
    if (!tracked_.finished) return false;
    finished_ = true;
    engine_->remove(&tracked_);
    engine_->log.finish(sequence_);
    tracked_.operation.reset();
    return true;
  }

  Tracked tracked_;
  std::shared_ptr<RankEngine> engine_;
  Transport& transport_;
  uint64_t sequence_;
  bool finished_ = false;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace

void RankEngine::progress() {
  for (Operation* operation : active_) operation->advance();
}

RequestPtr make_request(std::unique_ptr<Operation> operation, std::shared_ptr<RankEngine> engine, Transport& transport,
                        uint64_t sequence) {
  return std::make_unique<EngineRequest>(std::move(operation), std::move(engine), transport, sequence);
}

}  // namespace farsight
