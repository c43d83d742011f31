# Programs that are written for ration: linked with the library of this build.
$(BUILD)/tests/integration/deadlock: EXTRA = -L$(BUILD) -lration -Wl,-rpath,$(abspath $(BUILD))
$(BUILD)/tests/integration/deadlock: $(BUILD)/libration.so
