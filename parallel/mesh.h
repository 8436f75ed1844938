// SPDX-License-Identifier: Apache-2.0
// Ranks as a grid of named axes, fastest last: pipeline, data, ring, ulysses, tensor.
//   rank = (((pp * extent.dp + dp) * extent.ring + ring) * extent.uly + uly) * extent.tp + tp
// Sub-axes fold the same ranks a second time, the second of each pair fastest: (edp, ep) and (zrep, zero) fold
// (dp, ring, uly), for experts and for the groups that share optimizer state; (kvshard, kvrep) folds tp, for key heads
// fewer than tensor ranks. A collective names an axis set, never ranks.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm.h"

namespace farsight {

enum class Axis : uint8_t { pp, dp, ring, uly, tp, edp, ep, zrep, zero, kvshard, kvrep };
inline constexpr std::array<Axis, 11> kEveryAxis{Axis::pp, Axis::dp,   Axis::ring, Axis::uly,     Axis::tp,   Axis::edp,
                                                 Axis::ep, Axis::zrep, Axis::zero, Axis::kvshard, Axis::kvrep};
const char* to_string(Axis axis);

class AxisSet {
 public:
  constexpr AxisSet() = default;
  constexpr AxisSet(std::initializer_list<Axis> axes) {
    for (const Axis a : axes) bits_ = static_cast<uint16_t>(bits_ | bit(a));
  }
  constexpr bool contains(Axis a) const { return (bits_ & bit(a)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr AxisSet operator|(AxisSet other) const { return AxisSet(static_cast<uint16_t>(bits_ | other.bits_)); }
  constexpr AxisSet operator&(AxisSet other) const { return AxisSet(static_cast<uint16_t>(bits_ & other.bits_)); }
  constexpr AxisSet without(AxisSet other) const { return AxisSet(static_cast<uint16_t>(bits_ & ~other.bits_)); }
  constexpr auto operator<=>(const AxisSet&) const = default;

 private:
  constexpr explicit AxisSet(uint16_t bits) : bits_(bits) {}
  static constexpr uint16_t bit(Axis a) { return static_cast<uint16_t>(1U << static_cast<unsigned>(a)); }
  uint16_t bits_ = 0;
};
std::string to_string(AxisSet set);  // "dp*ring"; "none" for the empty set

inline constexpr AxisSet kAllAxes{Axis::pp, Axis::dp, Axis::ring, Axis::uly, Axis::tp};
inline constexpr AxisSet kContextAxes{Axis::ring, Axis::uly};                // cp
inline constexpr AxisSet kDataContextAxes{Axis::dp, Axis::ring, Axis::uly};  // dp_cp

// The grid as asked for. Meaning and ranges: the keys parallel.* of the configuration.
struct ParallelOptions {
  int64_t data = 0;  // 0 = auto: what the other axes leave
  int64_t ring = 1;
  int64_t ulysses = 1;
  int64_t tensor = 1;
  int64_t pipeline = 1;
  int64_t expert = 1;
  int64_t zero_group = 0;    // ranks that share optimizer state; 0 = all of dp_cp; divides it
  int64_t key_replicas = 1;  // tensor ranks that hold the same key head (kvrep); divides tensor
};

struct Coordinate {
  int64_t pp = 0, dp = 0, ring = 0, uly = 0, tp = 0;
  bool operator==(const Coordinate&) const = default;
};

// The arithmetic of the grid, without communication: all extents, built or not, for plans and tests.
class MeshShape {
 public:
  MeshShape() = default;
  // Throws Error{config} for an extent < 1 and when ep or zero do not divide dp * ring * uly, or kvrep tp. zero = 0
  // means all of dp * ring * uly.
  MeshShape(int64_t pp, int64_t dp, int64_t ring, int64_t uly, int64_t tp, int64_t ep = 1, int64_t zero = 0,
            int64_t kvrep = 1);

  int64_t world() const;
  int64_t extent(Axis axis) const;
  int64_t extent(AxisSet axes) const;  // product
  Coordinate coordinate(int64_t rank) const;
  int64_t rank(const Coordinate& coordinate) const;
  int64_t index(int64_t rank, Axis axis) const;
  // Ranks that share every axis outside `axes` with `rank`, in mesh order (fastest axis last), `rank` included.
  // Two foldings of the same ranks may not be mixed (ep with dp, kvrep with tp ...): Error{internal}.
  std::vector<int64_t> group(int64_t rank, AxisSet axes) const;

 private:
  int64_t pp_ = 1, dp_ = 1, ring_ = 1, uly_ = 1, tp_ = 1, ep_ = 1, zero_ = 1, kvrep_ = 1;
};

// Resolves `data = auto` and refuses by name whatever cannot run: extents whose product is not the world size, groups
// that do not divide, and axes that are not available in this version. All problems are in one Error{config}.
MeshShape resolve_mesh(const ParallelOptions& options, int64_t world);

// The grid of a running job: shape, own coordinate, and one communicator per axis set in use, created in one fixed
// order on all ranks and warmed up.
class Mesh {
 public:
  // Collective over `world`, which must outlive the mesh. Throws what resolve_mesh throws, on all ranks alike.
  Mesh(Communicator& world, const ParallelOptions& options);

  const MeshShape& shape() const { return shape_; }
  const Coordinate& coordinate() const { return coordinate_; }
  int64_t extent(AxisSet axes) const { return shape_.extent(axes); }

  Communicator& world() { return world_; }
  Communicator& dp() { return communicator({Axis::dp}); }
  Communicator& ring() { return communicator({Axis::ring}); }
  Communicator& uly() { return communicator({Axis::uly}); }
  Communicator& cp() { return communicator(kContextAxes); }
  Communicator& tp() { return communicator({Axis::tp}); }
  Communicator& dp_cp() { return communicator(kDataContextAxes); }  // gradients, token counts, losses
  Communicator& self() { return communicator({}); }                 // this rank alone
  // The same ranks on a communicator that only the gradient reduction uses: when one of its later stations starts
  // depends on when the one before has finished, so its place among other collectives would differ between ranks.
  Communicator& gradients(AxisSet axes);
  // Index among the ranks that share a sequence: ring * extent(uly) + uly.
  int64_t context_index() const { return coordinate_.ring * shape_.extent(Axis::uly) + coordinate_.uly; }
  // Axes of extent 1 do not matter. Error{internal} for a set that was not created.
  Communicator& communicator(AxisSet axes);

  // "data 2 x ring 2 x tensor 2 (8 ranks)", for the start-up line and doctor.
  std::string describe() const;

 private:
  using Communicators = std::map<AxisSet, std::unique_ptr<Communicator>>;
  AxisSet used(AxisSet axes) const;  // those with an extent above 1
  void create(Communicators& into, AxisSet axes, const char* purpose);
  Communicator& find(const Communicators& among, AxisSet axes) const;

  Communicator& world_;
  MeshShape shape_;
  Coordinate coordinate_;
  Communicators communicators_, gradients_;
};

}  // namespace farsight
