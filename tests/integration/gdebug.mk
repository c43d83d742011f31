# Programs that are written for ration: linked with the library of this build.
$(BUILD)/tests/integration/gdebug: EXTRA = -L$(BUILD) -lration -Wl,-rpath,$(abspath $(BUILD))
$(BUILD)/tests/integration/gdebug: $(BUILD)/libration.so
