// SPDX-License-Identifier: Apache-2.0
// Point-to-point messages between the ranks of one group, and memory that they share where there is some: all that a
// back end provides. The collectives are built on it once, in message_communicator, so every back end gives the same
// bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace farsight {

// A message on its way. Destroying it unfinished abandons the transfer: only while the job is ending.
class Message {
 public:
  virtual ~Message() = default;
  virtual bool test() = 0;  // true once finished
};
using MessagePtr = std::unique_ptr<Message>;

class SharedArea;

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Messages of one (source, destination, tag) arrive in the order they were sent. The memory stays alive and
  // untouched until the message has finished. bytes fits into an int.
  virtual MessagePtr send(const std::byte* data, int64_t bytes, int to, int tag) = 0;
  virtual MessagePtr receive(std::byte* data, int64_t bytes, int from, int tag) = 0;
  // Called by wait loops that found nothing finished `fruitless` times in a row.
  virtual void idle(int64_t fruitless) = 0;
  // The group of `members` (ranks of this one, in order of the new ranks), which all have this colour and got their
  // place by key. `serial` is equal on all ranks and differs between the splits of this transport. Collective.
  virtual std::unique_ptr<Transport> split(int colour, int key, const std::vector<int>& members, uint64_t serial) = 0;
  // Memory that all ranks of the group reach, or null on all of them. Settled when the group is made.
  virtual SharedArea* shared() { return nullptr; }
  // Whether long messages in the group go from buffer to buffer in one copy; the same on all ranks. Then memory that is
  // shared gains nothing for long copies without arithmetic.
  virtual bool copies_once() const { return false; }
  [[noreturn]] virtual void abort(int code) = 0;
};

}  // namespace farsight
