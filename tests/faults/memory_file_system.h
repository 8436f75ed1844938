// SPDX-License-Identifier: Apache-2.0
// A file system in memory that knows what a power loss leaves: only bytes that sync_data covered, and only directory
// entries that sync_directory covered. Thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "trainer/file_system.h"

namespace farsight {

class MemoryFileSystem : public FileSystem {
 public:
  MemoryFileSystem();
  ~MemoryFileSystem() override;

  // Forgets everything that was not synced, and all open descriptors.
  void lose_power();
  // As lose_power, but every file and directory decides by a coin whether its unsynced state survived.
  void lose_power_partly(uint64_t seed);
  // For damage: the content of a file.
  std::string& content(const std::string& path);
  std::vector<std::string> all_files() const;  // paths, sorted
  std::unique_ptr<MemoryFileSystem> copy() const;
  void advance_clock(double seconds);
  void set_free_bytes(int64_t bytes) { free_bytes_ = bytes; }

  int open_read(const std::string& path) override;
  int create_exclusive(const std::string& path) override;
  int64_t write(int descriptor, const void* data, size_t bytes) override;
  int64_t pread(int descriptor, void* data, size_t bytes, int64_t offset) override;
  int sync_data(int descriptor) override;
  int close(int descriptor) override;
  int status(const std::string& path, FileStatus& out) override;
  int list(const std::string& directory, std::vector<std::string>& names) override;
  int make_directory(const std::string& path) override;
  int sync_directory(const std::string& path) override;
  int rename(const std::string& from, const std::string& to) override;
  int remove_file(const std::string& path) override;
  int remove_directory(const std::string& path) override;
  int touch(const std::string& path) override;
  int64_t free_bytes(const std::string& path) override;

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  NodePtr find(const std::string& path) const;
  NodePtr parent_of(const std::string& path, std::string& name) const;
  static void lose(const NodePtr& node, uint64_t* coin);
  static NodePtr clone(const NodePtr& node);

  mutable std::mutex mutex_;
  NodePtr root_;
  std::map<int, NodePtr> open_;
  int next_descriptor_ = 3;
  int64_t clock_ns_ = 1;
  int64_t free_bytes_ = int64_t{1} << 40;
};

}  // namespace farsight
