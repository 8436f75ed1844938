// SPDX-License-Identifier: Apache-2.0
// Message passing between the ranks of one axis set. Small back ends: Self (one rank), MPI (host buffers), NCCL
// (devices), in-process (threads as ranks, for tests and `verify`). Counts are int64 elements; messages longer than MPI
// can count are split. Every rank of a communicator calls the same collectives in the same order, never under a
// rank-dependent condition. Calls of all communicators of one rank come from one thread.
//
// Reductions in host memory are deterministic: a sum is formed in rank order, so the same bits come out on every rank,
// on every run and from every back end. Every operation enters the rank's flight log with its call site.
//
// Errors: in-process ranks throw Error{environment} when another rank has failed; MPI errors end the job
// (MPI_ERRORS_ARE_FATAL); with checked collectives (CommOptions) a mismatch throws Error{internal} naming the ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>

#include "kernels/tensor.h"

namespace farsight {

class FlightLog;

enum class ReduceOp : uint8_t { sum, max, min };

// Where an operation was called: recorded for the watchdog's report. Never passed by hand.
using CallSite = std::source_location;

// Tags of send and receive lie in [0, kUserTags); the rest belong to the collectives.
inline constexpr int kUserTags = 16384;

struct CommOptions {
  bool checked = false;                      // compare (operation, count, type) before each collective
  int64_t piece_bytes = int64_t{1} << 30;    // longest single message; longer ones are split
  int64_t staging_bytes = int64_t{1} << 20;  // all_reduce over messages works on this much at a time
  // Collectives of at least shared_bytes use memory that the ranks of a node share, where all ranks of the communicator
  // are on one node: a window of at most window_bytes per rank and communicator.
  int64_t shared_bytes = 512;
  int64_t window_bytes = int64_t{4} << 20;
  bool direct = true;  // ranks in one process work in each other's buffers; false: through windows, as processes do
};

// A started transfer. Destroying an unfinished request waits for it.
class Request {
 public:
  virtual ~Request() = default;
  virtual void wait() = 0;
  virtual bool test() = 0;  // true once finished; also drives progress
};
using RequestPtr = std::unique_ptr<Request>;

// One message of exchange_tensors.
struct TensorTransfer {
  enum class Direction : uint8_t { send, receive };
  Direction direction;
  Tensor tensor;
  int peer;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;  // axis set, e.g. "ring", "dp*ring"

  virtual void barrier(CallSite at = CallSite::current()) = 0;
  // In place. max and min of floats ignore no NaN: any NaN makes the result NaN.
  virtual void all_reduce(std::span<float> data, ReduceOp op, CallSite at = CallSite::current()) = 0;
  virtual void all_reduce(std::span<double> data, ReduceOp op, CallSite at = CallSite::current()) = 0;
  virtual void all_reduce(std::span<int64_t> data, ReduceOp op, CallSite at = CallSite::current()) = 0;
  // `data` must stay alive and untouched until the request has finished. Several may be in flight.
  virtual RequestPtr all_reduce_async(std::span<float> data, ReduceOp op, CallSite at = CallSite::current()) = 0;
  virtual void broadcast(std::span<std::byte> data, int root, CallSite at = CallSite::current()) = 0;
  // `all` holds counts[r] bytes of rank r one after another.
  virtual void all_gather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const int64_t> counts,
                          CallSite at = CallSite::current()) = 0;
  // The three below work on pieces of uneven size, one per rank, that lie one after another; a piece may be empty. All
  // memory stays alive and (what is written to: untouched) until the request has finished. Several may be in flight.
  //
  // Piece r of every rank's `data`, counts[r] elements, is reduced in rank order and lands in `mine` of rank r, which
  // may be the own piece of `data`. The other pieces of `data` are only read.
  virtual RequestPtr reduce_scatter_async(std::span<const float> data, std::span<float> mine,
                                          std::span<const int64_t> counts, ReduceOp op,
                                          CallSite at = CallSite::current()) = 0;
  // As all_gather; `mine` may be the own piece of `all`.
  virtual RequestPtr all_gather_async(std::span<const std::byte> mine, std::span<std::byte> all,
                                      std::span<const int64_t> counts, CallSite at = CallSite::current()) = 0;
  // Piece r of `out`, out_counts[r] bytes, goes to rank r; piece s of `in`, in_counts[s] bytes, comes from rank s.
  virtual RequestPtr all_to_all_async(std::span<const std::byte> out, std::span<const int64_t> out_counts,
                                      std::span<std::byte> in, std::span<const int64_t> in_counts,
                                      CallSite at = CallSite::current()) = 0;
  // Messages between two ranks with one tag arrive in the order they were sent. Sizes must agree on both sides.
  virtual RequestPtr send(std::span<const std::byte> data, int to, int tag, CallSite at = CallSite::current()) = 0;
  virtual RequestPtr receive(std::span<std::byte> data, int from, int tag, CallSite at = CallSite::current()) = 0;
  // The same for contiguous tensors wherever they lie, f32 or bf16 (all_reduce_now: f32 or f64). Counts are elements.
  // On a device, waiting for a request orders later work of this rank behind the transfer, and the host goes on; when
  // test() becomes true depends on the speed of this rank's device, so no collective may be called because of it.
  // By default tensors of a device travel through host memory; sums are then as above, in bf16 formed in fp32 and
  // rounded once. Between devices (nccl_comm.h) the order of a sum is the library's.
  virtual RequestPtr all_reduce_tensor(const Tensor& data, ReduceOp op, CallSite at = CallSite::current());
  virtual void all_reduce_now(const Tensor& data, ReduceOp op, CallSite at = CallSite::current());
  virtual RequestPtr reduce_scatter_tensor(const Tensor& data, const Tensor& mine, std::span<const int64_t> counts,
                                           ReduceOp op, CallSite at = CallSite::current());
  virtual RequestPtr all_gather_tensor(const Tensor& mine, const Tensor& all, std::span<const int64_t> counts,
                                       CallSite at = CallSite::current());
  virtual RequestPtr all_to_all_tensor(const Tensor& out, std::span<const int64_t> out_counts, const Tensor& in,
                                       std::span<const int64_t> in_counts, CallSite at = CallSite::current());
  // Messages that travel together, none waiting for another: a rank sends and receives in one call, because on a device
  // one after the other would wait for ever. Messages between two ranks arrive in the order of their calls and lists.
  virtual RequestPtr exchange_tensors(std::span<const TensorTransfer> transfers, int tag,
                                      CallSite at = CallSite::current());
  // Ranks with the same colour, ordered by key, in a new communicator. Collective.
  virtual std::unique_ptr<Communicator> split(int colour, int key, std::string name,
                                              CallSite at = CallSite::current()) = 0;
  // Lets pending transfers of this rank advance, those of its other communicators included.
  virtual void progress() = 0;
  // How long this rank has been in wait() and in blocking operations of all its communicators since they were made:
  // transfers that no arithmetic covered, and time until slower ranks came. Transfers between devices: as far as the
  // device's arithmetic has stood still for them, known once the rank has waited for its device.
  virtual double waited_ms() const = 0;
  // The record of this rank's operations, shared by all its communicators; readable from any thread.
  virtual FlightLog& flight_log() = 0;
  // Ends the whole job at once with this exit code.
  [[noreturn]] virtual void abort(int code) = 0;
};

// A world of one rank. send and receive are refused with Error{internal}.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace farsight
