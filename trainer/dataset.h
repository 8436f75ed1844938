// SPDX-License-Identifier: Apache-2.0
// The corpora of a run: validated by one process before MPI starts, described to the others by broadcast, opened by
// all.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/probe.h"
#include "data/reader.h"
#include "parallel/comm.h"
#include "parallel/sequence_order.h"
#include "trainer/config.h"

namespace farsight {

// Descriptors of the files of every split in use; for valid and test empty lists mean "the train files".
struct DatasetFiles {
  std::vector<DataDescriptor> train, valid, test;

  const std::vector<DataDescriptor>& of(const std::string& split) const;
  bool has(const std::string& split) const;  // every file of that list holds the split
};

// The same as files of one kind. Error{data} naming a file of another kind and what to do.
std::vector<CorpusDescriptor> corpora(const std::vector<DataDescriptor>& files);
std::vector<SeriesDescriptor> series_files(const std::vector<DataDescriptor>& files);

// Validates all files named in the configuration, each metadata in a child process. Before MPI_Init, where the launcher
// says this process is rank 0. Checks the sidecar's block checksums too if data.verify = "full".
// Throws Error{data} or Error{io}; Error{config} without data.train.
DatasetFiles probe_dataset(const DataConfig& config);

// Collective: rank 0's files on every rank.
DatasetFiles broadcast_dataset(const DatasetFiles& files, Communicator& world);

// Opens a split for this rank. evaluation: every token but the first is a target once.
std::shared_ptr<Corpus> open_split(const DatasetFiles& files, const DataConfig& config, const std::string& split,
                                   bool evaluation, const std::string& where);

// This rank's positions in the form the reader takes.
std::vector<PositionRange> reader_ranges(const SequenceLayout& layout, int64_t owner);

}  // namespace farsight
